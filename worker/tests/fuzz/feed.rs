//! What a script's steps do to a connection. Rows were encoded when they get nowhere: that they
//! can be is what counts.

use crate::connection::Connection;
use crate::script::Step;

/// Time between two steps, nanoseconds.
const STEP_NS: u64 = 1_000_000;

pub(crate) fn take(conn: &mut Connection, step: &Step) {
    conn.now.0 += STEP_NS;
    conn.core.last = conn.now;
    match step {
        Step::Bytes(side, bytes) => conn.deliver(*side, bytes),
        Step::Gap(side, missed) => {
            let missed = (*missed).max(1);
            conn.on_stage(|stage, cx| stage.gap(*side, missed, cx));
        }
        Step::EndOfSide(side) => conn.on_stage(|stage, cx| stage.end_of_side(*side, cx)),
        Step::Flip => conn.flip(),
        Step::Pause(seconds) => conn.pause(*seconds),
    }
}

pub(crate) fn end(mut conn: Connection) {
    conn.on_stage(|stage, cx| stage.end(cx));
    conn.out.finish(conn.now).unwrap();
}
