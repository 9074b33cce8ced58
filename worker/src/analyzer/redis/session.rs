//! Commands and the replies that belong to them. Commands may be sent ahead of replies, and a
//! client can ask for none; subscriptions get theirs out of order.

use std::collections::{BTreeMap, BTreeSet};

use tyto_core::time::Ts;

use super::log::{CommandLog, RedisLog, ReplyLog};
use super::resp::{Command, Kind, Reply};
use crate::analyzer::Cx;

/// Commands that wait for replies (Zeek: `Redis::max_pending_commands`).
const PENDING_MAX: usize = 10_000;

/// A connection's dialogue.
#[derive(Debug, Default)]
pub(super) struct Session {
    pending: BTreeMap<u64, (Ts, CommandLog)>,
    commands: u64,
    replies: u64,
    /// Commands from the first of a range to before its end get no reply.
    silent: Vec<(u64, Option<u64>)>,
    /// Commands that get no reply of their own.
    skipped: BTreeSet<u64>,
    is_subscribed: bool,
    is_v3: bool,
}

impl Session {
    /// The client sent a command.
    pub(super) fn command(&mut self, command: &Command, cx: &mut Cx<'_>) {
        if self.pending.len() > PENDING_MAX {
            let addl = format!("{} > {PENDING_MAX}", self.pending.len());
            cx.weird_of("REDIS", "Redis_excessive_pipelining", &addl);
            *self = Self::default();
            return;
        }
        let name = command.lower(0);
        if name == b"hello" && command.lower(1) == b"3" {
            self.is_v3 = true;
        }
        self.commands += 1;
        let begins = matches!(&name[..], b"subscribe" | b"psubscribe" | b"ssubscribe");
        let ends = matches!(&name[..], b"unsubscribe" | b"punsubscribe" | b"sunsubscribe");
        if super::is_known(&name) {
            if !self.is_v3 {
                self.is_subscribed = begins;
            }
            if begins || ends || self.is_subscribed {
                self.skipped.insert(self.commands);
            }
        }
        if name == b"client" && command.words.len() == 3 {
            self.client(&command.lower(2));
        }
        self.pending.insert(self.commands, (cx.now, command.log()));
    }

    /// `CLIENT REPLY`: replies off, on again, or one skipped.
    fn client(&mut self, switch: &[u8]) {
        /// Ranges that are remembered; who switches more often gets wrong pairs.
        const RANGES_MAX: usize = 1024;
        let now = self.commands;
        let is_closed = self.silent.last().is_none_or(|(_, end)| end.is_some());
        match switch {
            b"on" => {
                if let Some((_, end @ None)) = self.silent.last_mut() {
                    *end = Some(now);
                }
            }
            b"off" if is_closed && self.silent.len() < RANGES_MAX => self.silent.push((now, None)),
            b"skip" if is_closed && self.silent.len() < RANGES_MAX => {
                self.silent.push((now, Some(now + 2)));
            }
            _ => {}
        }
    }

    /// The server sent a value.
    pub(super) fn reply(&mut self, reply: &Reply, cx: &mut Cx<'_>) {
        if reply.kind == Kind::Push {
            return;
        }
        if reply.kind == Kind::Answer {
            if reply.is_v3 {
                self.is_v3 = true;
                self.is_subscribed = false;
            }
            if self.is_subscribed {
                return;
            }
        }
        let number = self.reply_number();
        let before = std::mem::replace(&mut self.replies, number);
        for number in before.max(1)..self.replies {
            if let Some((ts, command)) = self.pending.remove(&number) {
                write(ts, command, None, cx);
            }
        }
        if let Some((ts, command)) = self.pending.remove(&self.replies) {
            let success = reply.kind != Kind::Error;
            write(ts, command, Some((success, reply.text.clone())), cx);
        }
        if reply.kind == Kind::Answer && self.commands == self.replies {
            self.skipped.clear();
        }
    }

    /// The number of the command that the next reply belongs to.
    fn reply_number(&mut self) -> u64 {
        let next = self.replies + 1;
        let mut number = next;
        for (begin, end) in &self.silent {
            if let Some(end) = end
                && (*begin..*end).contains(&next)
            {
                number = *end;
            }
        }
        while self.skipped.remove(&number) {
            number += 1;
        }
        number
    }

    /// The connection is over: commands without a reply are written, if there were replies.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        let pending = std::mem::take(&mut self.pending);
        if self.replies > 0 {
            for (ts, command) in pending.into_values() {
                write(ts, command, None, cx);
            }
        }
    }
}

fn write(ts: Ts, cmd: CommandLog, reply: Option<(bool, Vec<u8>)>, cx: &mut Cx<'_>) {
    let success = reply.as_ref().map(|(success, _)| *success);
    let reply = reply.map(|(_, value)| ReplyLog { value });
    cx.row(&RedisLog { ts, uid: cx.uid(), id: cx.id(), cmd, success, reply });
}
