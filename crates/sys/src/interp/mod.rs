//! The interpreter: a position-independent loop that makes a list of system calls in the task it is mapped into.
//!
//! It knows two things besides making calls: an argument may be loaded from memory (usually another call's result),
//! and a call may be allowed to fail. At the end mark or a failed call it traps, and the tracer takes over.
//! It never touches the stack.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::code;

/// The length of an encoded call.
pub const CALL_SIZE: usize = 64;
/// The call number that marks the end of a program.
pub const END: u32 = u32::MAX;
/// Flag bit: an errno doesn't stop the program. Bits 0 to 5 say that argument *i* is to be loaded from its address.
pub const MAY_FAIL: u16 = 1 << 6;
/// Where the result stands in an encoded call.
pub const RESULT_OFFSET: usize = 56;

/// Encodes a call: number, flags, six arguments, room for the result.
pub fn encode(nr: u32, flags: u16, args: [u64; 6]) -> [u8; CALL_SIZE] {
    let mut call = [0u8; CALL_SIZE];
    call[0..4].copy_from_slice(&nr.to_le_bytes());
    call[4..6].copy_from_slice(&flags.to_le_bytes());
    for (bytes, arg) in call[8..RESULT_OFFSET].chunks_exact_mut(8).zip(args) {
        bytes.copy_from_slice(&arg.to_le_bytes());
    }
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_laid_out_as_the_interpreter_reads_it() {
        let call = encode(39, MAY_FAIL | 1, [1, 2, 3, 4, 5, 6]);
        assert_eq!(call[..8], [39, 0, 0, 0, 0x41, 0, 0, 0]);
        assert_eq!(call[8], 1);
        assert_eq!(call[48], 6);
        assert_eq!(call[RESULT_OFFSET..], [0; 8]);
    }

    #[test]
    fn the_code_fits_in_one_page_and_ends_in_a_jump() {
        assert!(code().len() < 4096);
        assert!(code().windows(2).any(|w| w == [0x0f, 0x05]), "no syscall instruction");
        assert!(code().contains(&0xcc), "no trap");
    }
}
