//! Which file of `src/` names what another one defines.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::source::{File, Use, files};

pub(super) struct Source {
    pub(super) files: Vec<File>,
    by_module: HashMap<Vec<String>, usize>,
}

/// The end of a path.
#[derive(Clone)]
enum Found {
    Module(Vec<String>),
    /// The file that defines it.
    Item(usize),
}

/// A chain of re-exports is shorter.
const MOST_STEPS: u8 = 12;

impl Source {
    pub(super) fn read() -> Self {
        Self::new(files())
    }

    pub(super) fn new(files: Vec<File>) -> Self {
        // The program's own root is that of its modules: it names the library's as another crate's.
        let modules = files.iter().enumerate().filter(|(_, file)| file.path != "main.rs");
        let by_module = modules.map(|(nth, file)| (file.module.clone(), nth)).collect();
        Self { files, by_module }
    }

    /// For each file the files that define what it names, beside those of the modules that it is in: a module may use
    /// what it is made of, and its parts may use what it says of itself.
    ///
    /// A `mod` line names nothing. An item that is only re-exported is named by those who use it.
    pub(super) fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let of = |(nth, file): (usize, &File)| {
            let named = self.named_in(file).into_iter().filter(|named| *named != nth);
            let named = named.map(|named| &self.files[named]).filter(|named| !file.module.starts_with(&named.module));
            (self.files[nth].path.as_str(), named.map(|named| named.path.as_str()).collect())
        };
        self.files.iter().enumerate().map(of).collect()
    }

    /// The file that defines the type of this name, as seen from that file.
    pub(super) fn definer<'a>(&'a self, of: &'a File, path: &str) -> Option<&'a str> {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        match self.resolve(&of.module, &path, MOST_STEPS) {
            Some(Found::Item(nth)) => Some(&self.files[nth].path),
            Some(Found::Module(_)) => None,
            None => of.defines(&path[0]).then_some(&*of.path),
        }
    }

    fn named_in(&self, file: &File) -> Vec<usize> {
        let mut named = Vec::new();
        for import in &file.uses {
            match import.name.as_str() {
                "*" => named.extend(self.named_by_glob(file, import)),
                name if name == "_" || file.mentions(name) => named.extend(self.item(&file.module, &import.path)),
                _ => {}
            }
        }
        for path in paths(&file.code) {
            named.extend(self.item(&file.module, &path));
        }
        named
    }

    fn named_by_glob(&self, file: &File, import: &Use) -> Option<usize> {
        let path = &import.path[..import.path.len() - 1];
        let Some(Found::Module(module)) = self.resolve(&file.module, path, MOST_STEPS) else { return None };
        self.by_module.get(&module).copied()
    }

    fn item(&self, from: &[String], path: &[String]) -> Option<usize> {
        match self.resolve(from, path, MOST_STEPS) {
            Some(Found::Item(nth)) => Some(nth),
            Some(Found::Module(_)) | None => None,
        }
    }

    fn resolve(&self, from: &[String], path: &[String], steps: u8) -> Option<Found> {
        let steps = steps.checked_sub(1)?;
        let mut rest = path;
        let mut module = match path.first()?.as_str() {
            "crate" | "roadstead" => {
                rest = &rest[1..];
                Vec::new()
            }
            "self" => {
                rest = &rest[1..];
                from.to_vec()
            }
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                rest = &rest[ups..];
                from[..from.len().checked_sub(ups)?].to_vec()
            }
            first => {
                // Neither a module below this one nor imported: of another crate, or this file's own.
                let is_known = self.is_child(from, first) || self.import(from, first).is_some();
                is_known.then(|| from.to_vec())?
            }
        };
        while let Some((segment, behind)) = rest.split_first() {
            rest = behind;
            if self.is_child(&module, segment) {
                module.push(segment.clone());
                continue;
            }
            let nth = *self.by_module.get(&module)?;
            let found = match self.import(&module, segment) {
                Some(import) => self.resolve(&module, &import.path, steps)?,
                None if self.files[nth].defines(segment) => Found::Item(nth),
                None => self.behind_globs(nth, segment, steps).unwrap_or(Found::Item(nth)),
            };
            match found {
                Found::Module(found) => module = found,
                // The rest are its variants and methods.
                Found::Item(_) => return Some(found),
            }
        }
        Some(Found::Module(module))
    }

    fn behind_globs(&self, nth: usize, name: &str, steps: u8) -> Option<Found> {
        let file = &self.files[nth];
        let globs = file.uses.iter().filter(|import| import.name == "*");
        globs.into_iter().find_map(|glob| {
            let path = &glob.path[..glob.path.len() - 1];
            let Some(Found::Module(module)) = self.resolve(&file.module, path, steps) else { return None };
            let nth = *self.by_module.get(&module)?;
            self.files[nth].defines(name).then_some(Found::Item(nth))
        })
    }

    fn is_child(&self, module: &[String], name: &str) -> bool {
        let child: Vec<String> = module.iter().cloned().chain([name.to_owned()]).collect();
        self.by_module.contains_key(&child)
    }

    fn import(&self, module: &[String], name: &str) -> Option<&Use> {
        let file = &self.files[*self.by_module.get(module)?];
        // One that imports itself by name is a module that shares it, as in `use tls::tls`.
        file.uses.iter().find(|import| import.name == name && import.path.len() > 1)
    }
}

/// `a::b::c` wherever it stands.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c: char| !is_path(c)).filter(|word| word.contains("::"));
    let split = words.map(|word| word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
    split.filter(|path: &Vec<String>| path.len() > 1).collect()
}

/// Groups of files that reach each other.
pub(super) fn loops<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports.keys().map(|file| (*file, reach(imports, file))).collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (file, others) in &reached {
        if others.contains(file) && !found.iter().any(|group| group.contains(file)) {
            found.push(others.iter().copied().filter(|other| reached[other].contains(file)).collect());
        }
    }
    found
}

fn reach<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut left = vec![from];
    while let Some(file) = left.pop() {
        for next in &imports[file] {
            if reached.insert(*next) {
                left.push(next);
            }
        }
    }
    reached
}
