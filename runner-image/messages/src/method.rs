//! The numbers of the methods.
//! Must not change a number: new methods get new ones.

/// Anonymous agent -> hub: `IssueRequest` -> `IssueReply` of `valkyrie::bootstrap`.
pub const IDENTITY_ISSUE: u32 = 1;
/// Agent -> hub: `RenewRequest` -> `IssueReply` of `valkyrie::bootstrap`.
pub const IDENTITY_RENEW: u32 = 2;
/// Hub -> agent: [`crate::Offer`] -> [`crate::OfferReply`].
pub const JOB_OFFER: u32 = 16;
/// Hub -> agent: [`crate::CancelRequest`] -> [`crate::Empty`].
pub const JOB_CANCEL: u32 = 17;
/// Agent -> hub: [`crate::Progress`] -> [`crate::Empty`].
pub const JOB_PROGRESS: u32 = 32;
/// Agent -> hub: [`crate::JobResult`] -> [`crate::Empty`], answered only when the result is
/// durable.
pub const JOB_RESULT: u32 = 33;
/// Agent -> hub stream, head [`crate::LogOpen`]: the hub sends [`crate::LogAck`] first; the agent
/// sends [`crate::LogMessage`]s; the hub acknowledges each durable batch.
pub const LOG_APPEND: u32 = 48;
