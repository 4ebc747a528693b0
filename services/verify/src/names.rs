//! Texts that stand in millions of rows, kept once each.

use std::num::NonZeroU32;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// A text, as its number in [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(NonZeroU32);

/// The texts of the database: products, locations, orders, users.
#[derive(Debug, Default)]
pub struct Names {
    ids: FxHashMap<Arc<str>, Name>,
    texts: Vec<Arc<str>>,
}

impl Names {
    /// The name of a text, made on first sight.
    pub fn intern(&mut self, text: &str) -> Name {
        if let Some(&name) = self.ids.get(text) {
            return name;
        }
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        // Numbers start at 1. Four thousand million distinct texts would not fit into memory long before this saturates.
        let number =
            u32::try_from(self.texts.len()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        self.ids.insert(text, Name(number));
        Name(number)
    }

    /// The name of a text, if the database knows it at all.
    pub fn find(&self, text: &str) -> Option<Name> {
        self.ids.get(text).copied()
    }

    /// The text of a name.
    pub fn text(&self, name: Name) -> &str {
        self.texts.get(name.0.get() as usize - 1).map_or("?", |text| text)
    }

    /// The text of a name that may be missing, for people.
    pub fn shown(&self, name: Option<Name>) -> &str {
        name.map_or("nothing", |name| self.text(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_name() {
        let mut names = Names::default();
        let (a, b) = (names.intern("22423"), names.intern("online"));
        assert_ne!(a, b);
        assert_eq!(names.intern("22423"), a);
        assert_eq!((names.text(a), names.find("online"), names.find("offline")), ("22423", Some(b), None));
    }
}
