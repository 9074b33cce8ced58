//! The bindings of a connection, one for each pipe, and the rows that their calls make.

use std::collections::BTreeMap;

use tyto_core::time::Interval;

use super::interfaces;
use super::log::DceRpcLog;
use crate::analyzer::Cx;

/// Pipes of one connection. At the limit the others are forgotten, as Zeek does
/// (`SMB::max_dce_rpc_analyzers`).
const PIPES_MAX: usize = 1000;
/// Interfaces of one binding. Further ones are called by the latest.
const CONTEXTS_MAX: usize = 256;

/// All bindings of a connection, by the file that is their pipe; 0 on TCP.
#[derive(Debug, Default)]
pub struct Bindings {
    by_pipe: BTreeMap<u64, Binding>,
    /// A call, or a bind, waits for its end.
    is_open: bool,
}

/// One binding. Its row carries on from call to call what the next does not set anew.
#[derive(Debug)]
struct Binding {
    row: DceRpcLog,
    interface: Option<String>,
    named_pipe: Option<Vec<u8>>,
    contexts: BTreeMap<u16, String>,
}

impl Bindings {
    /// The client wants `interface`, to be called `context`.
    pub fn bind(&mut self, pipe: u64, context: u16, interface: &str, cx: &Cx<'_>) {
        let binding = self.of(pipe, cx);
        if binding.contexts.len() < CONTEXTS_MAX || binding.contexts.contains_key(&context) {
            binding.contexts.insert(context, interface.to_owned());
        }
        binding.interface = Some(interface.to_owned());
        binding.row.endpoint = Some(interfaces::interface(interface));
    }

    /// The server agreed, and tells its pipe or port.
    pub fn bound(&mut self, pipe: u64, address: &[u8], cx: &Cx<'_>) {
        let binding = self.of(pipe, cx);
        if !address.is_empty() {
            binding.named_pipe = Some(address.to_vec());
            binding.row.named_pipe = Some(address.to_vec());
        }
    }

    /// The server agreed to one more interface.
    pub fn altered(&mut self, pipe: u64, cx: &Cx<'_>) {
        self.of(pipe, cx);
    }

    /// A call begins.
    pub fn request(&mut self, pipe: u64, cx: &Cx<'_>) {
        self.of(pipe, cx).row.ts = cx.now;
    }

    /// A call ends.
    pub fn response(&mut self, pipe: u64, context: u16, operation: u16, cx: &mut Cx<'_>) {
        let binding = self.of(pipe, cx);
        binding.guess_interface();
        if let Some(interface) = binding.interface.as_deref()
            && binding.row.endpoint.is_some()
        {
            binding.row.operation = Some(interfaces::operation(interface, operation));
            if binding.row.ts != cx.now {
                binding.row.rtt = Some(cx.now.since(binding.row.ts));
            }
        }
        if let Some(interface) = binding.contexts.get(&context) {
            binding.row.endpoint = Some(interfaces::interface(interface));
            binding.row.operation = Some(interfaces::operation(interface, operation));
        }
        binding.write(cx);
        self.is_open = false;
    }

    /// The file `pipe` was closed.
    pub fn close(&mut self, pipe: u64) {
        self.by_pipe.remove(&pipe);
    }

    /// All pipes are forgotten.
    pub fn forget(&mut self) {
        self.by_pipe.clear();
    }

    /// The connection is over. Zeek writes the latest call of every pipe once more when
    /// anything was still open.
    pub fn finish(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        for mut binding in std::mem::take(&mut self.by_pipe).into_values() {
            binding.carry_on();
            binding.write(cx);
        }
    }

    fn of(&mut self, pipe: u64, cx: &Cx<'_>) -> &mut Binding {
        if self.by_pipe.len() >= PIPES_MAX && !self.by_pipe.contains_key(&pipe) {
            self.by_pipe.clear();
        }
        self.is_open = true;
        let binding = self.by_pipe.entry(pipe).or_insert_with(|| Binding::new(cx));
        binding.carry_on();
        binding
    }
}

impl Binding {
    fn new(cx: &Cx<'_>) -> Self {
        Self {
            row: DceRpcLog {
                ts: cx.now,
                uid: cx.uid(),
                id: cx.id(),
                rtt: None::<Interval>,
                named_pipe: None,
                endpoint: None,
                operation: None,
            },
            interface: None,
            named_pipe: None,
            contexts: BTreeMap::new(),
        }
    }

    /// The row's interface and pipe are those of the binding, whatever the last call was.
    fn carry_on(&mut self) {
        if let Some(interface) = &self.interface {
            self.row.endpoint = Some(interfaces::interface(interface));
        }
        if self.named_pipe.is_some() {
            self.row.named_pipe.clone_from(&self.named_pipe);
        }
    }

    /// Without a bind, the pipe may tell which interface it is.
    fn guess_interface(&mut self) {
        if self.row.endpoint.is_none()
            && let Some(pipe) = &self.row.named_pipe
            && let Some(interface) = interfaces::of_pipe(pipe)
        {
            self.interface = Some(interface.to_owned());
        }
    }

    fn write(&self, cx: &mut Cx<'_>) {
        if let (Some(interface), Some(operation)) = (&self.row.endpoint, &self.row.operation)
            && interfaces::is_logged(interface, operation)
        {
            cx.row(&self.row);
        }
    }
}
