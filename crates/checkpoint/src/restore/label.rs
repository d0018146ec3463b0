//! Labels of security modules, which restored threads must bear as those of a new container do.
//!
//! A new container's label is set for its exec, and a restored process makes none: the label is changed in place
//! (lsm_set_self_attr(2), Linux 6.8), by each thread, as the last thing before it gives up the means to change itself.
//! Left out: other modules than AppArmor and SELinux, and stacks of both.

use crate::program::Program;

/// `SYS_lsm_set_self_attr`, the same number on all architectures.
const LSM_SET_SELF_ATTR: i64 = 460;
/// `LSM_ATTR_CURRENT` of linux/lsm.h.
const ATTR_CURRENT: u64 = 100;

/// A label that all threads get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// `LSM_ID_*` of linux/lsm.h.
    module: u64,
    /// What the module is asked for.
    request: String,
}

impl Label {
    /// An AppArmor profile, by its name.
    pub fn apparmor(profile: &str) -> Self {
        // The same words as in /proc/PID/attr/apparmor/current.
        Self { module: 104, request: format!("changeprofile {profile}") }
    }

    /// A SELinux context.
    pub fn selinux(context: &str) -> Self {
        Self { module: 101, request: context.to_owned() }
    }

    /// Adds the call.
    pub(super) fn set(&self, program: &mut Program) {
        let context = program.data(&self.encode());
        let size = 32 + self.request.len();
        program.call(LSM_SET_SELF_ATTR, [ATTR_CURRENT.into(), context.into(), size.into(), 0u64.into()]);
    }

    /// The kernel's `struct lsm_ctx`: module, flags, its own length, the label's length, the label.
    fn encode(&self) -> Vec<u8> {
        let length = self.request.len() as u64;
        let mut bytes: Vec<u8> =
            [self.module, 0, 32 + length, length].iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(self.request.as_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_encoded_as_the_kernel_wants_it() {
        let bytes = Label::apparmor("web").encode();
        assert_eq!(bytes.len(), 32 + 17);
        assert_eq!(bytes[..8], 104u64.to_ne_bytes());
        assert_eq!(bytes[16..24], 49u64.to_ne_bytes());
        assert_eq!(bytes[24..32], 17u64.to_ne_bytes());
        assert_eq!(&bytes[32..], b"changeprofile web");
    }
}
