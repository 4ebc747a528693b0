//! `stocktide catalog load|export`: products, suppliers, locations and opening stock, as CSV files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use stocktide_runtime::Config;
use stocktide_store::catalogue::{
    self, LOCATIONS, LeftStock, LoadError, LoadReport, PRODUCTS, Refusal, STOCK, SUPPLIERS, Tally,
};

use super::table::table;
use super::{complain_of, connect, say};

/// How many of the opening stocks that were left as they are people are shown.
const SHOWN: usize = 10;

/// Load or export products, suppliers, locations and opening stock.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide catalog load catalogue/
  stocktide catalog export backup/ && stocktide catalog load backup/

The files are UTF-8 CSV with a header, columns in any order:
  products.csv    product_id,name,category,price,currency,reorder_point[,kind]
  suppliers.csv   supplier_id,name,contact
  locations.csv   location_id,name,kind,timezone
  stock.csv       product_id,location_id,quantity")]
pub struct CatalogArgs {
    #[command(subcommand)]
    command: CatalogCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CatalogCommand {
    /// Load a catalogue, all or nothing. What its files do not name stays; opening stock of rows that have had movements too.
    #[command(after_help = "Example:
  stocktide catalog load catalogue/

suppliers.csv and stock.csv may be absent. A row that is refused is told as FILE:LINE: REASON, and then nothing is loaded.")]
    Load {
        /// The directory of the files.
        dir: PathBuf,
        /// One JSON object on one line.
        #[arg(long)]
        json: bool,
    },
    /// Write the catalogue and the opening stock to files; files of these names are replaced.
    #[command(after_help = "Example:
  stocktide catalog export backup/")]
    Export {
        /// The directory; it is made if need be.
        dir: PathBuf,
        /// One JSON object on one line.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
///
/// # Errors
/// When the database is away or not migrated, or a file cannot be written. Refused rows are exit code 1.
pub async fn run(args: CatalogArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        CatalogCommand::Load { dir, json } => load(&dir, json, config).await,
        CatalogCommand::Export { dir, json } => export(&dir, json, config).await,
    }
}

async fn load(dir: &Path, json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    config.database_url()?;
    let files = match catalogue::read_dir(dir) {
        Ok(files) => files,
        Err(refusals) => return refused(dir, &refusals, json),
    };
    let pool = connect(config).await?;
    match catalogue::load(&pool, &files).await {
        Ok(report) if json => {
            let mut answer = serde_json::to_value(&report)?;
            answer["ok"] = json!(true);
            say(answer)?;
        }
        Ok(report) => print(&report)?,
        Err(LoadError::Refused(refusals)) => return refused(dir, &refusals, json),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn refused(dir: &Path, refusals: &[Refusal], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        say(json!({ "ok": false, "refused": refusals }))?;
        return Ok(ExitCode::FAILURE);
    }
    for refusal in refusals {
        complain_of(refusal);
    }
    anyhow::bail!("{} refused in {}: nothing was loaded", refusals.len(), dir.display());
}

fn print(report: &LoadReport) -> anyhow::Result<()> {
    let row = |(file, tally): (&str, Tally)| {
        if report.absent.contains(&file) {
            return vec![file.to_owned(), "absent".to_owned()];
        }
        let counts = [tally.new, tally.changed, tally.unchanged, tally.left].map(|n| n.to_string());
        [file.to_owned()].into_iter().chain(counts).collect()
    };
    let files = [
        (PRODUCTS, report.products),
        (SUPPLIERS, report.suppliers),
        (LOCATIONS, report.locations),
        (STOCK, report.stock),
    ];
    say(table(&["file", "new", "changed", "unchanged", "left as is"], &files.map(row)))?;
    if !report.left.is_empty() {
        say(
            "Opening stock left as it is, because these rows have had movements (corrections are adjustment events):",
        )?;
    }
    for left in report.left.iter().take(SHOWN) {
        say(describe(left))?;
    }
    if report.left.len() > SHOWN {
        say(format!("  … and {} more", report.left.len() - SHOWN))?;
    }
    say(format!("catalogue version {}", report.catalogue_version))?;
    Ok(())
}

fn describe(left: &LeftStock) -> String {
    let LeftStock { line, product_id, location_id, opening_quantity, stated_quantity } = left;
    let kept = opening_quantity.map_or_else(|| "what it has".to_owned(), |q| q.to_string());
    format!(
        "  {STOCK}:{line}: {product_id:?} at {location_id:?} keeps {kept}, the file says {stated_quantity}"
    )
}

async fn export(dir: &Path, json: bool, config: &Config) -> anyhow::Result<ExitCode> {
    let pool = connect(config).await?;
    let exported = catalogue::export(&pool, dir).await?;
    if json {
        say(serde_json::to_string(&exported)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let files = [
        (PRODUCTS, exported.products),
        (SUPPLIERS, exported.suppliers),
        (LOCATIONS, exported.locations),
        (STOCK, exported.stock),
    ];
    let rows = files.map(|(file, rows)| vec![dir.join(file).display().to_string(), rows.to_string()]);
    say(table(&["file", "rows"], &rows))?;
    Ok(ExitCode::SUCCESS)
}
