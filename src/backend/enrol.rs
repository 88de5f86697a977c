//! The two calls that bring a token (agent API: "Enrolment and rotation").

use std::path::Path;

use qod_wire::{Enrolled, RotatedToken};
use serde::de::DeserializeOwned;

use super::{Client, Failure, TRANSFER, credentials};
use crate::config::{Config, Error};

/// Longest answer that is read, in bytes.
const LONGEST_ANSWER: u64 = 16 * 1024;

impl Client {
    /// As [`Client::new`], but shows the bootstrap token in a file in place of the agent's own; without one only
    /// the client certificate.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else.
    pub fn enrolling(config: &Config, bootstrap: Option<&Path>) -> Result<Self, Error> {
        Self::showing(config, bootstrap.map(credentials::token_in).transpose()?)
    }

    /// Asks for the agent's first token.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn enrol(&self) -> Result<Enrolled, Failure> {
        let enrolled: Enrolled = self.ask(&format!("{}/enrol", self.api))?;
        check(&enrolled.token)?;
        Ok(enrolled)
    }

    /// Asks for another token in place of the agent's present one.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn rotate(&self) -> Result<RotatedToken, Failure> {
        let rotated: RotatedToken = self.ask(&format!("{}/token", self.url))?;
        check(&rotated.token)?;
        Ok(rotated)
    }

    fn ask<T: DeserializeOwned>(&self, url: &str) -> Result<T, Failure> {
        let request = self.prepared(self.http.post(url), TRANSFER);
        let mut answer = request
            .send_empty()
            .map_err(|error| Failure::of_call(&error, &self.host))?;
        if answer.status() != 200 {
            return Err(Failure::of_answer(answer.status(), answer.headers()));
        }
        let body = answer.body_mut().with_config().limit(LONGEST_ANSWER);
        let body = body
            .read_to_vec()
            .map_err(|error| Failure::of_call(&error, &self.host))?;
        // What the parser says may quote the token.
        serde_json::from_slice(&body).map_err(|_| useless())
    }
}

fn check(token: &str) -> Result<(), Failure> {
    if credentials::is_token(token) {
        Ok(())
    } else {
        Err(useless())
    }
}

fn useless() -> Failure {
    Failure::Unreachable {
        what: "the backend's answer holds no token".to_owned(),
        retry_after: None,
    }
}
