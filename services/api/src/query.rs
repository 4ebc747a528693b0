//! Strict reading of a path's and a query's parameters: what is unknown, given twice or not allowed is refused by name.

use std::marker::PhantomData;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use serde::de::value::{Error, MapDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use crate::params::Parameter;
use crate::problem::{Problem, shown};

/// The query's parameters.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        read(parts.uri.query().unwrap_or_default()).map(Query)
    }
}

/// A route without parameters takes none.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

pub fn read<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let mut pairs: Vec<(String, Value)> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if pairs.iter().any(|(known, _)| *known == name) {
            let detail = format!("{} is given more than once; allowed: once", shown(&name));
            return Err(Problem::invalid_parameter(detail).about(&name));
        }
        if [&name, &value].iter().any(|text| text.contains(['\u{fffd}', '\0'])) {
            let detail = format!("{} is not UTF-8 text without NUL", shown(&name));
            return Err(Problem::invalid_parameter(detail).about(&name));
        }
        pairs.push((name.into_owned(), Value(value.into_owned())));
    }
    let given = pairs.clone();
    let map = MapDeserializer::<_, Error>::new(pairs.into_iter());
    serde_path_to_error::deserialize(map).map_err(|error| {
        let (name, told) = (error.path().to_string(), error.inner().to_string());
        explain(&name, &told, &given)
    })
}

/// serde's words in ours.
fn explain(name: &str, told: &str, given: &[(String, Value)]) -> Problem {
    if let Some(unknown) = told.strip_prefix("unknown field `") {
        // The name itself may hold anything: what is allowed stands after the last mark of it.
        let name = given
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| unknown.starts_with(*name) && told.contains(&format!("`{name}`")));
        let name = name.unwrap_or_default();
        let allowed = unknown.strip_prefix(name).unwrap_or_default().trim_start_matches("`, ");
        let allowed = match allowed.strip_prefix("expected ") {
            Some(fields) => fields.trim_start_matches("one of ").replace('`', ""),
            None => "no parameters".to_owned(),
        };
        return Problem::invalid_parameter(format!(
            "there is no parameter {:?}; allowed: {allowed}",
            shown(name)
        ))
        .about(name);
    }
    if let Some(missing) = told.strip_prefix("missing field `") {
        let name = missing.trim_end_matches('`');
        return Problem::invalid_parameter(format!("{name} is missing")).about(name);
    }
    let value =
        given.iter().find(|(known, _)| known == name).map(|(_, value)| shown(&value.0)).unwrap_or_default();
    Problem::invalid_parameter(format!("{name} is {value:?}; allowed: {told}")).about(name)
}

/// A text that also stands for an optional one.
#[derive(Debug, Clone)]
struct Value(String);

impl IntoDeserializer<'_, Error> for Value {
    type Deserializer = Value;

    fn into_deserializer(self) -> Value {
        self
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any newtype_struct enum
    }
}

/// The one parameter of a path.
#[derive(Debug)]
pub struct PathOf<T>(pub T, PhantomData<T>);

impl<T: Parameter, S: Send + Sync> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid_parameter("the path is not UTF-8 text"))?;
        let (name, value) = params.iter().next().unwrap_or_default();
        let read = T::read(value).map(|value| PathOf(value, PhantomData));
        read.ok_or_else(|| {
            let detail = format!("{name} is {:?}; allowed: {}", shown(value), T::ALLOWED);
            Problem::invalid_parameter(detail).about(name)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::params::{By, Limit, Month};

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        limit: Option<Limit>,
        by: Option<By>,
        start: Month,
    }

    fn told(query: &str) -> String {
        serde_json::to_value(read::<Wanted>(query).unwrap_err()).unwrap()["detail"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn parameters_are_read() {
        let wanted = read::<Wanted>("start=2024-02&limit=7").unwrap();
        assert_eq!(
            (wanted.limit.unwrap().0, wanted.by.is_none(), wanted.start.number()),
            (7, true, 2024 * 12 + 1)
        );
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        assert_eq!(
            told("start=2024-13"),
            "start is \"2024-13\"; allowed: a month as YYYY-MM, from 1900-01 to 2999-12"
        );
        assert_eq!(told("limit=1"), "start is missing");
        assert_eq!(told("start=2024-01&start=2024-02"), "start is given more than once; allowed: once");
        assert_eq!(told("start=2024-01&sort=x"), "there is no parameter \"sort\"; allowed: limit, by, start");
        assert_eq!(told("start=2024-01&a`b=x"), "there is no parameter \"a`b\"; allowed: limit, by, start");
        assert_eq!(told("start=2024-01&by=' OR 1=1 --"), "by is \"' OR 1=1 --\"; allowed: spend or orders");
        assert_eq!(told("start=%ff"), "start is not UTF-8 text without NUL");
        assert_eq!(told("start=2024-01&limit="), "limit is \"\"; allowed: a whole number from 1 to 500");
        assert!(told("start=4111111111111111").contains("************1111"));
    }

    #[test]
    fn a_route_without_parameters_takes_none() {
        let problem = read::<Nothing>("x=1").unwrap_err();
        assert!(serde_json::to_string(&problem).unwrap().contains("allowed: no parameters"));
        assert!(read::<Nothing>("").is_ok());
    }
}
