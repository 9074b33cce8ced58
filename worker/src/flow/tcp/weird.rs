//! What is odd about TCP, by Zeek's names.

/// The analyzer that saw what TCP itself sees; what Zeek tells of the connection as such has
/// none.
pub const TCP: Option<&str> = Some("TCP");

pub(super) const WINDOW_RECISION: &str = "window_recision";
pub(super) const SCALE_RANGE: &str = "TCP_scale_range";
pub(super) const ABOVE_HOLE: &str = "above_hole_data_without_any_acks";
pub(super) const EXCESSIVE_UNACKED: &str = "excessive_data_without_further_acks";
pub(super) const PENDING_WHEN_CLOSED: &str = "pending_data_when_closed";
pub(super) const SPLIT_ROUTING: &str = "possible_split_routing";
pub(super) const SYN_SEQ_JUMP: &str = "SYN_seq_jump";
pub(super) const SYN_INSIDE: &str = "SYN_inside_connection";
pub(super) const ACTIVE_REUSE: &str = "active_connection_reuse";
pub(super) const PREMATURE_REUSE: &str = "premature_connection_reuse";
pub(super) const SEQ_UNDERFLOW: &str = "TCP_seq_underflow_or_misorder";
pub(super) const ACK_UNDERFLOW: &str = "TCP_ack_underflow_or_misorder";
pub(super) const CHRISTMAS: &str = "TCP_christmas";
pub(super) const BAROQUE_SYN: &str = "baroque_SYN";
pub(super) const SYN_WITH_DATA: &str = "SYN_with_data";
pub(super) const FIN_STORM: &str = "FIN_storm";
pub(super) const RST_STORM: &str = "RST_storm";
pub(super) const ORIG_SYN_ACK: &str = "connection_originator_SYN_ack";
pub(super) const BAD_SYN_ACK: &str = "bad_SYN_ack";
pub(super) const SIMULTANEOUS_OPEN: &str = "simultaneous_open";
pub(super) const UNSOLICITED_SYN: &str = "unsolicited_SYN_response";
pub(super) const SPONTANEOUS_FIN: &str = "spontaneous_FIN";
pub(super) const SPONTANEOUS_RST: &str = "spontaneous_RST";
pub(super) const REPEATED_SYN_ACK: &str = "repeated_SYN_with_ack";
pub(super) const REPEATED_SYN_REPLY: &str = "repeated_SYN_reply_wo_ack";
pub(super) const INAPPROPRIATE_FIN: &str = "inappropriate_FIN";
pub(super) const EARLY_DATA: &str = "data_before_established";
pub(super) const SYN_AFTER_PARTIAL: &str = "SYN_after_partial";
pub(super) const SYN_AFTER_CLOSE: &str = "SYN_after_close";
pub(super) const FIN_ADVANCED: &str = "FIN_advanced_last_seq";
pub(super) const SYN_AFTER_RESET: &str = "SYN_after_reset";
pub(super) const FIN_AFTER_RESET: &str = "FIN_after_reset";
pub(super) const DATA_AFTER_RESET: &str = "data_after_reset";
pub(super) const TRUNCATED_PAYLOAD: &str = "truncated_tcp_payload";
