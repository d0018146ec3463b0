//! The cases that docs/oci-features.md names.

use crate::case::Case;

const DOCUMENT: &str = include_str!("../../docs/oci-features.md");

/// Names after a `D` in its tables that no case has; `…` stands for the beginning of the name before.
pub(crate) fn of_no_case(cases: &[Case]) -> Vec<&'static str> {
    // But for the table that explains the short names.
    let rows = DOCUMENT.lines().filter(|line| line.starts_with('|') && !line.contains("D \"name\""));
    let parts = rows.flat_map(|row| row.split([';', '|'])).filter(|part| part.trim_start().starts_with("D \""));
    let names = parts.flat_map(|part| part.split('"').skip(1).step_by(2));
    let is_none = |name: &&str| match name.strip_prefix("… ") {
        Some(end) => !cases.iter().any(|case| case.name.ends_with(end)),
        None => !cases.iter().any(|case| case.name == *name),
    };
    names.filter(is_none).collect()
}
