//! Tables for people.

use stocktide_runtime::terminal::escape;

/// Rows under a header, columns aligned: to the right where every cell is a number or says that there is none.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    // A cell is one line, whatever a producer wrote into it.
    let cell =
        |row: &[String], at: usize| row.get(at).map(|cell| escape(cell.as_bytes())).unwrap_or_default();
    let columns: Vec<(usize, bool)> = (0..header.len())
        .map(|at| {
            let widest =
                rows.iter().map(|row| width(&cell(row, at))).chain([width(header[at])]).max().unwrap_or(0);
            (widest, rows.iter().all(|row| is_numeric(&cell(row, at))))
        })
        .collect();
    let line = |cells: Vec<String>| {
        let padded: Vec<String> = cells
            .into_iter()
            .zip(&columns)
            .map(|(cell, (widest, to_the_right))| {
                let fill = " ".repeat(widest - width(&cell));
                if *to_the_right { fill + &cell } else { cell + &fill }
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = line(header.iter().map(|h| (*h).to_owned()).collect());
    let body = rows.iter().map(|row| line((0..header.len()).map(|at| cell(row, at)).collect()));
    [head].into_iter().chain(body).collect::<Vec<_>>().join("\n")
}

fn is_numeric(cell: &str) -> bool {
    ["", "-", "absent"].contains(&cell) || cell.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_stand_to_the_right_and_texts_to_the_left() {
        let rows = [["a", "1", "x"], ["béé", "-", "10"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(super::table(&["name", "n", "what"], &rows), "name  n  what\na     1  x\nbéé   -  10");
    }
}
