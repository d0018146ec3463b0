//! The commands, as a wrong one is answered.

/// One line each, for the documents too: tidy finds commands there that this text hasn't.
pub(crate) const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo          rtc's main job: a service with clients is saved, gone, and comes back
  demo redis    the same with Debian's redis-server
  test          every check: structure, format, lints, documentation, unit tests, real programs, engines in a VM
  test fast     the same without the VM
  test vm       the VM alone
  ci STEP...    only the named steps of the test; without a name, lists them
  tidy          the structure of the source alone
  contrib       write completions and manual pages anew (the unit tests check that they are current)
  deb           the Debian package, in target/debian
  fuzz [TARGET] [SECONDS]   hostile input for the parsers, each for a minute or as long as said
";
