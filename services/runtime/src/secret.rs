//! Values that must not be shown.

use std::fmt;

use serde::Deserialize;

/// What stands where a secret is.
pub const MASK: &str = "***";

/// A value that logs, errors and `stocktide config` do not show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value itself, for the one who connects with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// A URL with its password masked, in the user part and in the query; what is no URL is masked altogether.
pub fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return MASK.to_owned();
    };
    // The last `@` ends the user part even where a password has a bare `/` or `@` in it.
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let user = match user.map(|u| u.split_once(':')) {
        Some(Some((name, _password))) => format!("{name}:{MASK}@"),
        Some(None) => format!("{}@", user.unwrap_or_default()),
        None => String::new(),
    };
    format!("{scheme}://{user}{}", mask_query(place))
}

fn mask_query(place: &str) -> String {
    let Some((path, query)) = place.split_once('?') else {
        return place.to_owned();
    };
    let masked: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret_name(name) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{path}?{}", masked.join("&"))
}

/// Whether a setting's name says that its value is a secret; percent signs may hide what it says.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if name.contains('%') {
        return true;
    }
    ["password", "secret", "token", "credential", "signature", ".pem", "oauthbearer.config"]
        .iter()
        .any(|word| name.contains(word))
        && !["endpoint", "location", "file"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://ann:s3cret@db:5432/shop", "postgres://ann:***@db:5432/shop"),
            ("postgres://ann:p@ss/w:rd@db/shop", "postgres://ann:***@db/shop"),
            ("postgres://ann@db/shop", "postgres://ann@db/shop"),
            (
                "postgres://db/shop?user=ann&password=x&sslmode=require",
                "postgres://db/shop?user=ann&password=***&sslmode=require",
            ),
            ("postgres://db/shop?passwor%64=x", "postgres://db/shop?passwor%64=***"),
            ("s3://bucket/reports", "s3://bucket/reports"),
            ("host=db password=x", "***"),
        ] {
            assert_eq!(mask_url(url), shown);
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "***");
    }
}
