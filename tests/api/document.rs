//! The document is what the code says.

#[test]
fn the_document_in_docs_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let document = stocktide_api::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &document).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == document,
        "UPDATE_DOCS=1 cargo test -p stocktide --test api writes docs/openapi.json anew"
    );
}

#[test]
fn every_route_says_what_it_answers_and_what_may_go_wrong() {
    let document = serde_json::to_value(stocktide_api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 18);
    for (path, item) in paths {
        for operation in item.as_object().unwrap().values() {
            assert!(operation["summary"].is_string(), "{path} has no summary");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200") || responses.contains_key("202"), "{path}");
            assert!(responses.contains_key("503") && responses.contains_key("400"), "{path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            assert!(parameters.iter().all(|p| p["description"].is_string()), "{path}: {parameters:?}");
        }
    }
}
