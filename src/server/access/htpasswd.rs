//! Passwords of an htpasswd file, as hashes of bcrypt or argon2.

use std::collections::HashMap;
use std::fmt;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash as PhcHash;

use super::client::{BrokenLine, lines, name_problem};

/// A check of more than 2^14 rounds takes seconds.
const MAX_BCRYPT_COST: u32 = 14;
/// The same for argon2: KiB of memory, and passes over it.
const MAX_ARGON2_KIB: u32 = 256 * 1024;
const MAX_ARGON2_PASSES: u32 = 16;

/// A file of `name:hash` lines. Its `Debug` shows no hash.
#[derive(Clone, Default)]
pub struct Htpasswd {
    users: HashMap<String, Hash>,
}

#[derive(Clone)]
enum Hash {
    Bcrypt(Box<str>),
    Argon2(Box<str>),
}

impl Htpasswd {
    /// Reads the file's text. The error lists every line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, Vec<BrokenLine>> {
        let (mut users, mut broken) = (HashMap::new(), Vec::new());
        for (line, entry) in lines(text) {
            match read(entry) {
                Ok((name, _)) if users.contains_key(name) => {
                    broken.push(BrokenLine { line, why: "names a user that an earlier line names" });
                }
                Ok((name, hash)) => {
                    users.insert(name.to_owned(), hash);
                }
                Err(why) => broken.push(BrokenLine { line, why }),
            }
        }
        if broken.is_empty() { Ok(Self { users }) } else { Err(broken) }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// Takes as long for a name that is not there. Blocks for up to some seconds.
    pub(super) fn is_right(&self, name: &str, password: &str) -> bool {
        let Some(hash) = self.users.get(name) else {
            if let Some(any) = self.users.values().next() {
                any.is_of(password);
            }
            return false;
        };
        hash.is_of(password)
    }
}

fn read(entry: &str) -> Result<(&str, Hash), &'static str> {
    let (name, hash) = entry.split_once(':').ok_or("has no colon between a name and a hash")?;
    if let Some(why) = name_problem(name) {
        return Err(why);
    }
    Ok((name, Hash::read(hash)?))
}

impl Hash {
    fn read(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("$2") {
            let parts: bcrypt::HashParts = text.parse().map_err(|_malformed| "is no hash of bcrypt")?;
            // Parts are read without their alphabet.
            if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./$".contains(&byte)) {
                return Err("is no hash of bcrypt");
            }
            if parts.get_cost() > MAX_BCRYPT_COST {
                return Err("has a hash whose check takes too long: a cost of 14 is the most");
            }
            return Ok(Self::Bcrypt(text.into()));
        }
        if text.starts_with("$argon2") {
            let hash = PhcHash::new(text).map_err(|_malformed| "is no hash of argon2")?;
            let params = argon2::Params::try_from(&hash).map_err(|_malformed| "is no hash of argon2")?;
            if params.m_cost() > MAX_ARGON2_KIB || params.t_cost() > MAX_ARGON2_PASSES {
                return Err("has a hash whose check takes too long: 256 MiB and 16 passes are the most");
            }
            return Ok(Self::Argon2(text.into()));
        }
        Err("has neither a hash of bcrypt, as `htpasswd -B` writes, nor one of argon2")
    }

    fn is_of(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2(hash) => PhcHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
        }
    }
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Htpasswd({} users)", self.users.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$04$g4Lc6Ohv0Rdhe.eD3CUBt.lI5Fp6WKlBZ2WXlmWWRPUVzHLPz1OWm";

    #[test]
    fn t84_an_htpasswd_with_a_broken_line_names_the_line_and_nothing_of_it() {
        let text = format!(
            "# comment\n\na:{BCRYPT}\nhunter2-marker\nb:$apr1$hunter2-marker\nc:$2y$04$hunter2-marker\na:{BCRYPT}\n:{BCRYPT}\n\
             d:{}\nanonymous:{BCRYPT}\ne e:{BCRYPT}\nf:$argon2id$hunter2-marker\n",
            BCRYPT.replace("$04$", "$20$")
        );
        let broken = Htpasswd::parse(&text).unwrap_err();
        assert_eq!(broken.iter().map(|broken| broken.line).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10, 11, 12]);
        for broken in broken {
            assert!(!broken.to_string().contains("hunter2"), "{broken}");
        }
    }

    #[test]
    fn passwords_are_compared_with_their_hash() {
        let hash = bcrypt::hash("right", 4).unwrap();
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let phc = argon2::password_hash::PasswordHasher::hash_password_with_salt(&argon2, b"right", b"saltsaltsalt");
        let text = format!("a:{hash}\r\nb:{}\n", phc.unwrap());
        let file = Htpasswd::parse(&text).unwrap();
        for name in ["a", "b"] {
            assert!(file.is_right(name, "right"));
            assert!(!file.is_right(name, "wrong") && !file.is_right(name, ""));
        }
        assert!(!file.is_right("c", "right"));
    }
}
