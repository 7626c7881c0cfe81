//! `POST /v1/enrolments`: an agent names its invitation and gets what was sealed for it, once.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Context;

/// What an agent asks with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// The name of its invitation.
    invitation: String,
}

pub(crate) async fn enrol(
    State(context): State<Context>,
    question: Result<Json<Question>, JsonRejection>,
) -> (StatusCode, Json<Value>) {
    let refuse = |status: StatusCode, why: &str| (status, Json(json!({ "error": why })));
    let Ok(Json(Question { invitation })) = question else {
        return refuse(StatusCode::BAD_REQUEST, "the question is {\"invitation\": NAME} as application/json");
    };
    let Some((store, _)) = context.store.get() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the store is not open yet");
    };
    let digest = chiffon_schemas::digest(invitation.as_bytes());
    match store.redeem(&digest, (context.now)()).await {
        Ok(Some((agent, sealed))) => {
            tracing::info!(%agent, "enrolled");
            (StatusCode::OK, Json(json!({ "agent": agent, "sealed": sealed })))
        }
        Ok(None) => refuse(
            StatusCode::NOT_FOUND,
            "no such invitation is open: it was used, has ended, or was never made; `chiffon agent invite NAME` makes \
             another, and where it was used `chiffon agent rotate NAME`",
        ),
        Err(error) => {
            tracing::warn!(%error, "an agent could not enrol");
            refuse(StatusCode::SERVICE_UNAVAILABLE, "the store failed: try again")
        }
    }
}
