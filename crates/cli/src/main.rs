//! Where the program `rtc` is entered: what it does is in the library beside it.
#![no_main]

rtc_sys::entry!(rtc::main);

#[cfg(quick_start)]
rtc_sys::quick_start!();
