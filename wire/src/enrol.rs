//! Enrolment and rotation of an agent's credential.

use serde::{Deserialize, Serialize};

/// Answer to `POST /agent/v1/enrol`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// The id under which the agent polls and reports from now on.
    pub agent_id: String,
    /// The agent's bearer token. A secret.
    pub token: String,
}

/// Answer to `POST /agent/v1/agents/{agentId}/token`. The old token stays valid for 24 h.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotatedToken {
    /// The agent's new bearer token. A secret.
    pub token: String,
}

// Neither type derives Debug: a secret that cannot be formatted cannot reach a log.

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enrolment_answers_round_trip() {
        let json = r#"{"agentId":"home-0001","token":"s3cret"}"#;
        let enrolled: Enrolled = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&enrolled).unwrap(), json);
        let json = r#"{"token":"s3cret"}"#;
        let rotated: RotatedToken = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&rotated).unwrap(), json);
    }
}
