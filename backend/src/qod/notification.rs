//! How a request asks for notifications.

use serde_json::{Map, Value};

use crate::error_info::ErrorInfo;
use crate::json::Object;
use crate::notifications::event::SinkForm;
use crate::notifications::target::{LONGEST_URL, TOKEN_LENGTH, Target, Token};

const URL: &str = "notificationUrl";
const TOKEN: &str = "notificationAuthToken";

/// Where a consumer wants its notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// In which form it asked.
    pub form: SinkForm,
    /// Where they go.
    pub target: Target,
    /// What the receiver wants to see.
    pub token: Option<Token>,
}

impl Wanted {
    /// Refuses a URL that tells an address which is not public.
    ///
    /// # Errors
    /// 400.
    pub fn check_public(&self) -> Result<(), ErrorInfo> {
        if self.target.is_public() {
            return Ok(());
        }
        let place = match self.form {
            SinkForm::Top => "",
            SinkForm::Webhook => "webhook.",
        };
        Err(ErrorInfo::invalid(format!(
            "Schema validation failed at {place}{URL}: must not lead to an address that is not public"
        )))
    }
}

/// Reads `notificationUrl` and `notificationAuthToken` at the top or in `webhook`. The token is not echoed here: what
/// is echoed is stored as it is.
pub(super) fn read(
    body: &Object<'_>,
    echo: &mut Map<String, Value>,
) -> Result<Option<Wanted>, ErrorInfo> {
    if let Some(node) = body.get("webhook") {
        if body.get(URL).is_some() || body.get(TOKEN).is_some() {
            return Err(ErrorInfo::invalid(format!(
                "Multiple inconsistent parameters specified: {URL} and webhook"
            )));
        }
        let webhook = node.object()?;
        webhook.require(URL)?;
        let mut shown = Map::new();
        let wanted = read_form(&webhook, SinkForm::Webhook, &mut shown)?;
        echo.insert("webhook".to_owned(), Value::Object(shown));
        return Ok(wanted);
    }
    if body.get(URL).is_none() && body.get(TOKEN).is_some() {
        return Err(ErrorInfo::invalid(format!(
            "Expected property is missing: {URL}"
        )));
    }
    read_form(body, SinkForm::Top, echo)
}

fn read_form(
    object: &Object<'_>,
    form: SinkForm,
    echo: &mut Map<String, Value>,
) -> Result<Option<Wanted>, ErrorInfo> {
    let Some(node) = object.get(URL) else {
        return Ok(None);
    };
    let text = node.text(LONGEST_URL)?;
    let target = Target::read(text).map_err(|error| node.invalid(error.to_string()))?;
    echo.insert(URL.to_owned(), text.into());
    let token = object
        .get(TOKEN)
        .map(|node| {
            Token::read(node.string()?).ok_or_else(|| {
                node.invalid(format!(
                    "must have {} to {} characters of a bearer token: letters, digits, -._~+/ and = at the end",
                    TOKEN_LENGTH.start(),
                    TOKEN_LENGTH.end()
                ))
            })
        })
        .transpose()?;
    Ok(Some(Wanted {
        form,
        target,
        token,
    }))
}

/// Puts the token into a session as it is shown.
pub(super) fn show_token(info: &mut Map<String, Value>, form: SinkForm, token: &Token) {
    let place = match form {
        SinkForm::Top => Some(info),
        SinkForm::Webhook => info.get_mut("webhook").and_then(Value::as_object_mut),
    };
    if let Some(place) = place {
        place.insert(TOKEN.to_owned(), token.expose().into());
    }
}
