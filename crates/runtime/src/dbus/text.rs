//! Values as people type them: GLib's "GVariant Text Format", as podman and runc take it for properties of units.
//!
//! `'text'`, `15`, `uint64 10000000`, `true`, `@as []`, `[('/a', 'b')]`, `<1>`.
//! Left out: dictionaries and maybe types, which no property of systemd has.

use super::value::Value;
use crate::error::{Error, Kind, Result};

/// How deeply values may be nested.
const DEPTH: u32 = 16;

/// Names of types that may stand before a value.
const TYPES: &[(&str, &str)] = &[
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

/// Parses a whole text.
///
/// # Errors
/// [`Kind::Invalid`] with what is expected where.
pub(crate) fn parse(text: &str) -> Result<Value> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(None, 0)?;
    parser.blanks();
    if parser.at < text.len() { Err(parser.wrong("the end")) } else { Ok(value) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn wrong(&self, expected: &str) -> Error {
        let message = format!("{:?} at character {} is not {expected}", self.text, self.at + 1);
        Error::new(Kind::Invalid, message)
            .with_hint("values are typed as GVariant text: 'text', 15, uint64 10000000, true, ['a', 'b']")
    }

    /// Takes a character, with blanks before it.
    fn take(&mut self, character: char) -> bool {
        self.blanks();
        let is_next = self.rest().starts_with(character);
        self.at += if is_next { character.len_utf8() } else { 0 };
        is_next
    }

    fn need(&mut self, character: char) -> Result<()> {
        if self.take(character) { Ok(()) } else { Err(self.wrong(&format!("{character:?}"))) }
    }

    /// The longest run of letters, digits and the signs of numbers.
    fn word(&mut self) -> &'a str {
        self.blanks();
        let part_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !part_of_word(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// A value, of the type that is expected if there is one.
    fn value(&mut self, expected: Option<&str>, depth: u32) -> Result<Value> {
        if depth > DEPTH {
            return Err(self.wrong("as shallow as values may be"));
        }
        self.blanks();
        let depth = depth + 1;
        match self.rest().chars().next() {
            Some('@') => {
                self.at += 1;
                let rest = self.rest();
                let signature = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
                self.at += signature.len();
                self.value(Some(signature), depth)
            }
            Some('[') => self.array(expected, depth),
            Some('(') => self.tuple(expected, depth),
            Some('<') => {
                self.at += 1;
                let inner = self.value(None, depth)?;
                self.need('>')?;
                Ok(Value::Variant(Box::new(inner)))
            }
            Some('\'' | '"') => self.string(expected),
            _ => self.plain(expected, depth),
        }
    }

    fn array(&mut self, expected: Option<&str>, depth: u32) -> Result<Value> {
        self.need('[')?;
        let mut element = match expected {
            None => None,
            Some(signature) => Some(signature.strip_prefix('a').ok_or_else(|| self.wrong(signature))?.to_owned()),
        };
        let mut elements = Vec::new();
        while !self.take(']') {
            if !elements.is_empty() {
                self.need(',')?;
            }
            let value = self.value(element.as_deref(), depth)?;
            // The first element sets the type of all.
            let signature = value.signature();
            if *element.get_or_insert_with(|| signature.clone()) != signature {
                return Err(self.wrong("of the type of the elements before"));
            }
            elements.push(value);
        }
        match element {
            Some(element) => Ok(Value::Array(element, elements)),
            None => Err(self.wrong("an array of a known type: write @as [] for no strings")),
        }
    }

    fn tuple(&mut self, expected: Option<&str>, depth: u32) -> Result<Value> {
        self.need('(')?;
        let mut rest = match expected {
            None => None,
            Some(signature) => {
                let inner = signature.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
                Some(inner.ok_or_else(|| self.wrong(signature))?)
            }
        };
        let mut fields = Vec::new();
        while !self.take(')') {
            if !fields.is_empty() {
                self.need(',')?;
                if self.take(')') {
                    break;
                }
            }
            let (first, after) = match rest {
                None => (None, None),
                Some(signature) => {
                    let split = super::value::split(signature).ok_or_else(|| self.wrong("')'"))?;
                    (Some(split.0), Some(split.1))
                }
            };
            fields.push(self.value(first, depth)?);
            rest = after;
        }
        if rest.is_some_and(|rest| !rest.is_empty()) {
            return Err(self.wrong("a tuple with all its fields"));
        }
        Ok(Value::Struct(fields))
    }

    fn string(&mut self, expected: Option<&str>) -> Result<Value> {
        let quote = if self.take('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.need('\'')?;
        }
        let mut text = String::new();
        let mut characters = self.rest().char_indices();
        loop {
            let Some((index, character)) = characters.next() else { return Err(self.wrong("a string with its end")) };
            if character == quote {
                self.at += index + 1;
                break;
            }
            if character == '\\' {
                let Some((_, escaped)) = characters.next() else { return Err(self.wrong("a string with its end")) };
                text.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    other => other,
                });
            } else {
                text.push(character);
            }
        }
        match expected.unwrap_or("s") {
            "s" => Ok(Value::Text(text)),
            "o" => Ok(Value::Path(text)),
            "g" => Ok(Value::Signature(text)),
            other => Err(self.wrong(other)),
        }
    }

    /// A number, a truth value, or a type's name and the value of that type.
    fn plain(&mut self, expected: Option<&str>, depth: u32) -> Result<Value> {
        let start = self.at;
        let word = self.word();
        if let Some((_, signature)) = TYPES.iter().find(|(name, _)| *name == word) {
            return self.value(Some(signature), depth);
        }
        let value = match word {
            "true" | "false" if matches!(expected, None | Some("b")) => Some(Value::Bool(word == "true")),
            _ => number(word, expected),
        };
        value.ok_or_else(|| {
            self.at = start;
            self.wrong(match expected {
                Some(signature) => TYPES.iter().find(|(_, s)| *s == signature).map_or(signature, |(name, _)| name),
                None => "a value",
            })
        })
    }
}

/// A number of the expected type; without one, an int32, or a double if it looks like one.
fn number(word: &str, expected: Option<&str>) -> Option<Value> {
    let is_hex = word.trim_start_matches(['+', '-']).starts_with("0x");
    let is_double = !is_hex && word.contains(['.', 'e', 'E']);
    let integer = || {
        let (negative, digits) = match word.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, word.strip_prefix('+').unwrap_or(word)),
        };
        let value = match digits.strip_prefix("0x") {
            Some(hex) => i128::from_str_radix(hex, 16).ok()?,
            None if digits.len() > 1 && digits.starts_with('0') => i128::from_str_radix(digits, 8).ok()?,
            None => digits.parse::<i128>().ok()?,
        };
        // No second sign.
        digits.starts_with(|c: char| c.is_ascii_digit()).then_some(if negative { -value } else { value })
    };
    Some(match expected.unwrap_or(if is_double { "d" } else { "i" }) {
        "y" => Value::Byte(integer()?.try_into().ok()?),
        "n" => Value::Int16(integer()?.try_into().ok()?),
        "q" => Value::Uint16(integer()?.try_into().ok()?),
        "i" => Value::Int32(integer()?.try_into().ok()?),
        "u" => Value::Uint32(integer()?.try_into().ok()?),
        "x" => Value::Int64(integer()?.try_into().ok()?),
        "t" => Value::Uint64(integer()?.try_into().ok()?),
        "d" => Value::Double(word.parse().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn what_engines_write() {
        assert_eq!(value("15"), Value::Int32(15));
        assert_eq!(value("uint64 10000000"), Value::Uint64(10_000_000));
        assert_eq!(value("'inactive-or-failed'"), Value::text("inactive-or-failed"));
        assert_eq!(value(" true "), Value::Bool(true));
        assert_eq!(value("-1.5"), Value::Double(-1.5));
        assert_eq!(value("int64 -0x10"), Value::Int64(-16));
        assert_eq!(value("byte 010"), Value::Byte(8));
        assert_eq!(value("\"it's \\\"\""), Value::text("it's \""));
        assert_eq!(value("@as []"), Value::Array("s".into(), vec![]));
        assert_eq!(value("objectpath '/a'"), Value::Path("/a".into()));
    }

    #[test]
    fn containers_have_one_type() {
        let pair = Value::Struct(vec![Value::text("/dev/null"), Value::text("rw")]);
        assert_eq!(value("[('/dev/null', 'rw')]"), Value::Array("(ss)".into(), vec![pair]));
        assert_eq!(value("@a(su) [('a', 1)]").signature(), "a(su)");
        assert_eq!(value("[uint32 1, 2]").signature(), "au");
        assert_eq!(value("<1>"), Value::Variant(Box::new(Value::Int32(1))));
        assert_eq!(value("(1,)").signature(), "(i)");
    }

    #[test]
    fn what_is_no_value_is_told_with_its_place() {
        let error = parse("uint32 -1").unwrap_err();
        assert_eq!(error.to_string(), "\"uint32 -1\" at character 8 is not uint32");
        assert!(error.hint().is_some_and(|hint| hint.contains("uint64 10000000")));
        for bad in [
            "",
            "x",
            "1 2",
            "[1, 'a']",
            "[]",
            "'a",
            "300000000000",
            "byte 256",
            "--1",
            "@(su) ('a',)",
            "@as ['a', 1]",
            "{'a': 1}",
            "uint64 true",
            "0x",
            "<1",
            "@",
            "1.5.2",
            "bool",
            "@ai 1",
            "(1 2)",
        ] {
            assert!(parse(bad).is_err(), "{bad} was taken");
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
    }
}
