use crate::harness::Test;
pub(crate) const TESTS: &[Test] = &[];
