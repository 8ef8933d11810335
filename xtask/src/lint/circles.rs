//! The rule that files import each other in one direction, but for a module and those inside it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Violation,
    names::{Name, names},
};

/// The path of a module in its crate; that of the root is empty.
type Module = Vec<String>;

/// The imports of a file: other modules, and the line of the first name of each.
type Imports = BTreeMap<Module, usize>;

/// The names that each module offers, and the paths that it has them from.
type Offers = BTreeMap<Module, BTreeMap<String, String>>;

/// Most modules by which a name is handed on.
const DEPTH: usize = 8;

/// The modules of a crate.
struct Crate {
    modules: BTreeSet<Module>,
    offers: Offers,
}

/// Finds imports that lead back to the file that has them, through any number of other files.
///
/// `sources` are the paths and the texts of all Rust files.
pub(super) fn check(sources: &[(&str, String)]) -> Vec<Violation> {
    let folders = sources.iter().filter_map(|(file, _)| root(file));
    let roots: BTreeSet<_> = folders.collect();
    roots.into_iter().flat_map(|root| check_crate(root, sources)).collect()
}

/// Returns the folder of a crate's root file.
fn root(file: &str) -> Option<&str> {
    ["/lib.rs", "/main.rs"].iter().find_map(|name| file.strip_suffix(name))
}

fn check_crate(root: &str, sources: &[(&str, String)]) -> Vec<Violation> {
    let modules: BTreeMap<Module, (&str, &str)> = sources
        .iter()
        .filter_map(|(file, text)| Some((module(root, file)?, (*file, text.as_str()))))
        .collect();
    let offers = modules.iter().map(|(module, (_, text))| (module.clone(), offers(text)));
    let all = Crate { modules: modules.keys().cloned().collect(), offers: offers.collect() };
    let graph: BTreeMap<_, _> = modules
        .iter()
        .map(|(module, (_, text))| (module.clone(), imports(module, text, &all)))
        .collect();
    let mut violations = Vec::new();
    for (from, imports) in &graph {
        for (to, line) in imports.iter().filter(|(to, _)| leads(&graph, to, from)) {
            violations.push(Violation {
                file: modules[from].0.to_owned(),
                line: *line,
                what: format!("`{}` is imported, and imports this file", to.join("::")),
            });
        }
    }
    violations
}

/// Returns the module that a file below `root` is; both files of a crate's root are its root.
fn module(root: &str, file: &str) -> Option<Module> {
    let path = file.strip_prefix(root)?.strip_prefix('/')?.strip_suffix(".rs")?;
    if path == "lib" || path == "main" {
        return Some(Module::new());
    }
    Some(path.split('/').map(str::to_owned).collect())
}

/// Returns the names that a file offers to others, with the paths that it has them from.
fn offers(text: &str) -> BTreeMap<String, String> {
    let offered = names(text).into_iter().filter(|name| name.offered);
    let each = offered.filter_map(|name| Some((name.path.rsplit("::").next()?.into(), name.path)));
    each.collect()
}

/// Returns the modules that a file names, without itself, its ancestors and those inside it.
fn imports(own: &Module, text: &str, all: &Crate) -> Imports {
    let mut imports = Imports::new();
    for Name { line, path, .. } in names(text) {
        if let Some(module) = all.resolve(own, &path, DEPTH)
            && !module.starts_with(own)
            && !own.starts_with(&module)
        {
            imports.entry(module).or_insert(line);
        }
    }
    imports
}

impl Crate {
    /// Returns the module that a path leads into: that which has the name, not one that hands it on.
    fn resolve(&self, own: &Module, path: &str, depth: usize) -> Option<Module> {
        let mut parts = path.split("::").peekable();
        let mut module = if parts.peek() == Some(&"crate") { Vec::new() } else { own.clone() };
        while let Some(&part) = parts.peek() {
            match part {
                "crate" | "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            parts.next();
        }
        while let Some(&part) = parts.peek() {
            module.push(part.to_owned());
            if !self.modules.contains(&module) {
                module.pop();
                break;
            }
            parts.next();
        }
        let handed_on = parts.peek().and_then(|name| self.offers.get(&module)?.get(*name));
        if let Some(path) = handed_on.filter(|_| depth > 0 && module != *own) {
            return self.resolve(&module, path, depth - 1);
        }
        self.modules.contains(&module).then_some(module)
    }
}

/// Returns whether imports lead from one module to another.
fn leads(graph: &BTreeMap<Module, Imports>, from: &Module, to: &Module) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            next.extend(graph.get(module).into_iter().flat_map(BTreeMap::keys));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&'static str, &str)]) -> Vec<String> {
        let sources: Vec<_> =
            files.iter().map(|(file, text)| (*file, (*text).to_owned())).collect();
        check(&sources).into_iter().map(|violation| violation.to_string()).collect()
    }

    #[test]
    fn circles_are_reported_where_they_are_imported() {
        let files = [
            ("x/src/lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("x/src/a.rs", "\nuse crate::{b::B, d};\n"),
            ("x/src/b.rs", "fn c() -> super::c::C {}\n"),
            ("x/src/c/d.rs", "use crate::a::A;\n"),
            ("x/src/c.rs", "mod d;\nuse crate::a;\n"),
        ];
        assert_eq!(
            found(&files),
            [
                "x/src/a.rs:2: `b` is imported, and imports this file",
                "x/src/b.rs:1: `c` is imported, and imports this file",
                "x/src/c.rs:2: `a` is imported, and imports this file",
            ]
        );
    }

    #[test]
    fn names_that_a_module_hands_on_are_followed() {
        let files = [
            ("x/src/lib.rs", "mod a;\n"),
            ("x/src/a.rs", "mod b;\nmod c;\npub use self::b::{B, D as E};\n"),
            ("x/src/a/b.rs", "use super::c::C;\n"),
            ("x/src/a/c.rs", "use crate::a::{\n    A, B,\n};\n"),
        ];
        assert_eq!(
            found(&files),
            [
                "x/src/a/b.rs:1: `a::c` is imported, and imports this file",
                "x/src/a/c.rs:2: `a::b` is imported, and imports this file",
            ]
        );
    }

    #[test]
    fn modules_and_those_inside_them_may_import_each_other() {
        let files = [
            ("x/src/main.rs", "mod a;\nuse a::A;\n"),
            ("x/src/a.rs", "mod b;\nuse self::b::B;\n"),
            ("x/src/a/b.rs", "use super::A;\nuse crate::Main;\n"),
        ];
        assert!(found(&files).is_empty());
        let tests = "use crate::b;\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n";
        assert!(
            found(&[("x/lib.rs", ""), ("x/a.rs", "use crate::b;"), ("x/b.rs", tests)]).is_empty()
        );
    }
}
