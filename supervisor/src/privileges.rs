//! What a process may do that reads packets of strangers: nothing that its user may not.

use std::io;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Gives up every capability of this process, and of whatever program it becomes, root or not.
/// Its user stays the same.
///
/// # Errors
/// When the kernel refuses to take one away.
pub(crate) fn give_up() -> io::Result<()> {
    // From now on execve gives nothing that we do not have (no_new_privs, prctl(2)).
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    drop_bounding_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// The upper bound of what root gets by execve. Only who has CAP_SETPCAP may lower it; others
/// keep a bound that means nothing, because of no_new_privs.
fn drop_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // EINVAL: the kernel knows no capability of that number.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
