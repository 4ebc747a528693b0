//! What `Dockerfile` builds the program from: `.dockerignore` lets through only what it names.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Cargo reads the manifest of every member of the workspace, whatever it builds, and looks for each one's sources.
#[test]
fn the_image_gets_every_member_of_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    let lines = || ignored.lines().map(str::trim);
    assert!(lines().any(|line| line == "*"), "what is not named is left out");
    let named: Vec<&Path> = lines().filter_map(|line| line.strip_prefix('!')).map(Path::new).collect();

    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let files = packages.iter().flat_map(|package| {
        let targets = package["targets"].as_array().unwrap().iter();
        let built = targets.filter(|target| ["lib", "bin"].map(Value::from).contains(&target["kind"][0]));
        let sources = built.map(|target| &target["src_path"]);
        sources.chain([&package["manifest_path"]]).map(|path| Path::new(path.as_str().unwrap()))
    });
    let missing: Vec<&Path> = files
        .map(|file| file.strip_prefix(root).unwrap())
        .filter(|file| !named.iter().any(|named| file.starts_with(named)))
        .collect();
    assert!(missing.is_empty(), ".dockerignore keeps back {missing:?}");
}
