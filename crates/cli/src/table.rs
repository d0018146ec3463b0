//! Tables for people: columns padded as runc pads them (at least 12 wide, three spaces between).

/// Lays out rows of equal length; the last column is not padded.
pub(crate) fn layout(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count() + 3).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(|c| width(c).max(12)).collect();
    let mut out = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths).take(columns - 1) {
            out.push_str(&format!("{cell:width$}"));
        }
        out.push_str(row.last().map_or("", String::as_str));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["ID", "PID", "OWNER"], ["a-rather-long-name", "7", "root"]].map(|r| r.map(String::from).to_vec());
        assert_eq!(layout(&rows), "ID                   PID         OWNER\na-rather-long-name   7           root\n");
    }
}
