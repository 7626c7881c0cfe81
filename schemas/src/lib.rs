//! The documents and messages that everything in Chiffon speaks, as Rust types, and what both sides must agree on.
//!
//! `schemas/json/` is generated from these types by `make gen`. Nothing here does I/O or reads the clock.

mod agent_file;
mod attempt;
mod canonical;
mod check;
mod config;
pub mod crash;
mod diagnostic;
mod evidence;
mod generate;
mod ids;
mod message;
mod nearest;
mod plan;
pub mod protocol;
mod request;
mod result;
mod trace;
pub mod yaml;

pub use agent_file::{AgentFile, AgentFileKind, AgentFileSpec, Credentials, InfraSource, MirrorSpec};
pub use attempt::AttemptState;
pub use canonical::{blob_oid, digest, plan_bytes, to_yaml};
pub use check::{read, read_evidence, read_plan, read_request, schema_of};
pub use config::{
    AgentSpec, AmqpSpec, AnsibleSpec, AppSpec, ApprovalSpec, BusSpec, ConfigFile, ConfigKind, ConfigSpec,
    ForAgentsSpec, ForgeKind, ForgeSpec, InfraSpec, ManagementSpec, PolicySpec, PostgresSpec, Scope, StoreSpec,
    TlsSpec, TokenSpec, TracesSpec, WebSpec,
};
pub use diagnostic::{Code, Diagnostic};
pub use evidence::{Evidence, EvidenceKind, EvidenceMode, EvidenceSpec, Forecast, HostEvidence, OpaqueTask};
pub use generate::generated_files;
pub use ids::{BootId, EventId, Fence, Host, InvalidId, Name, Oid, RepoPath, RunId, Timestamp, ulid};
pub use message::{
    AgentMessage, AttemptKey, Direction, FromAgent, Grant, Hello, Order, Report, ReportBody, Settled, ToAgent,
    Unreported,
};
pub use nearest::nearest;
pub use plan::{
    AgentKind, InfraRef, Mode, Pin, Plan, PlanKind, PlanMetadata, PlanSpec, PlannedBy, PlannerKind, RequestRef, Risk,
    RiskLevel, Step, Tools, Touches, Undo,
};
pub use request::{ApiVersion, DEFAULT_PRIORITY, NOT_BUILT_YET, Request, RequestKind, RequestSpec};
pub use result::{
    ApprovalRecord, AttemptResult, ChangedTask, Established, Failure, LogDigest, Outcome, Recap, ResultKind, RunResult,
    RunResultSpec, RunState, StepResult, Usage, Verdict,
};
pub use trace::{Recorder, Span, TraceParent, began_ms};

/// A value as JSON has it; maps keep their keys sorted, so that serialising is deterministic.
pub type Json = serde_json::Value;
