//! What tells a home, and perhaps a device of it.

use sqlx::{Any, Row, Transaction};

use super::homes::Home;
use super::{OrDoing, Store, StoreError, is_taken, places};

/// What tells a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentifierKind {
    /// Subject of a three-legged token.
    Sub,
    /// Phone number.
    Phone,
    /// Network access identifier.
    Nai,
    /// Address prefix.
    Prefix,
}

impl IdentifierKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Sub => "sub",
            Self::Phone => "phone",
            Self::Nai => "nai",
            Self::Prefix => "prefix",
        }
    }
}

/// The home, and perhaps the device, that an identifier tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// The home's id.
    pub home: String,
    /// The device's MAC address.
    pub mac: Option<String>,
}

impl Store {
    /// What `value` tells.
    ///
    /// # Errors
    /// The store failed.
    pub async fn identify(
        &self,
        kind: IdentifierKind,
        value: &str,
    ) -> Result<Option<Identifier>, StoreError> {
        let doing = "look an identifier up";
        sqlx::query("SELECT home_id, mac FROM home_identifiers WHERE kind = $1 AND value = $2")
            .bind(kind.as_str())
            .bind(value)
            .fetch_optional(&self.read)
            .await
            .or_doing(doing)?
            .map(|row| {
                Ok(Identifier {
                    home: row.try_get(0).or_doing(doing)?,
                    mac: row.try_get(1).or_doing(doing)?,
                })
            })
            .transpose()
    }

    /// The home with the longest of `prefixes`, which come longest first and in their canonical spelling.
    ///
    /// # Errors
    /// The store failed.
    pub async fn home_by_prefix(&self, prefixes: &[String]) -> Result<Option<String>, StoreError> {
        let doing = "look an address up";
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT home_id, value FROM home_identifiers WHERE kind = 'prefix' AND value IN ({})",
            places(1, prefixes.len())
        ));
        let mut query = sqlx::query(sql);
        for prefix in prefixes {
            query = query.bind(prefix);
        }
        let mut best: Option<(usize, String)> = None;
        for row in query.fetch_all(&self.read).await.or_doing(doing)? {
            let home: String = row.try_get(0).or_doing(doing)?;
            let value: String = row.try_get(1).or_doing(doing)?;
            let rank = prefixes
                .iter()
                .position(|prefix| *prefix == value)
                .unwrap_or(usize::MAX);
            if best.as_ref().is_none_or(|(known, _)| rank < *known) {
                best = Some((rank, home));
            }
        }
        Ok(best.map(|(_, home)| home))
    }
}

/// Returns the identifier that belongs to another home, if any.
pub(super) async fn put_identifiers(
    transaction: &mut Transaction<'_, Any>,
    id: &str,
    home: &Home,
) -> Result<Option<String>, StoreError> {
    let doing = "write the identifiers of a home";
    sqlx::query("DELETE FROM home_identifiers WHERE home_id = $1")
        .bind(id)
        .execute(&mut **transaction)
        .await
        .or_doing(doing)?;
    let subs = home.subs.iter().map(|sub| (IdentifierKind::Sub, sub, None));
    let phones = home
        .phone_numbers
        .iter()
        .map(|phone| (IdentifierKind::Phone, &phone.number, phone.mac.as_ref()));
    let nais = home
        .network_access_identifiers
        .iter()
        .map(|nai| (IdentifierKind::Nai, &nai.nai, nai.mac.as_ref()));
    let prefixes = home
        .prefixes
        .iter()
        .map(|prefix| (IdentifierKind::Prefix, prefix, None));
    for (kind, value, mac) in subs.chain(phones).chain(nais).chain(prefixes) {
        let inserted = sqlx::query(
            "INSERT INTO home_identifiers (kind, value, home_id, mac) VALUES ($1, $2, $3, $4)",
        )
        .bind(kind.as_str())
        .bind(value)
        .bind(id)
        .bind(mac)
        .execute(&mut **transaction)
        .await;
        match inserted {
            Err(error) if is_taken(&error) => {
                return Ok(Some(format!("{} {value}", kind.as_str())));
            }
            inserted => inserted.or_doing(doing)?,
        };
    }
    Ok(None)
}
