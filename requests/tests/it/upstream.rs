//! A forge's repository and our copy of it, over a path.

use chiffon_requests::{Expect, Git, GitUrl, RefName, Repo, Upstream};
use chiffon_schemas::{Name, Oid};

use super::bed::{Bed, edit, search_path};

struct Both {
    /// The forge's.
    there: Bed,
    here: tempfile::TempDir,
    upstream: Upstream,
}

impl Both {
    fn new() -> Self {
        let (there, here) = (Bed::new(), tempfile::tempdir().unwrap());
        let url = GitUrl::of_forge(there.path().to_str().unwrap(), false).unwrap();
        let upstream = Upstream::new(Git::new(search_path(), None), here.path().join("copy.git"), url);
        Self { there, here, upstream }
    }

    fn copy(&self) -> Repo {
        Repo::open(&self.here.path().join("copy.git")).unwrap()
    }

    /// A commit that is only here, on top of `main`.
    fn prepared(&self, name: &Name, text: &str) -> Oid {
        let copy = self.copy();
        let main = copy.reference(&RefName::branch("main").unwrap()).unwrap().unwrap();
        let mut edit = edit("main", Expect::Any, &[("plans/a.yaml", Some(text))]);
        edit.branch = RefName::forge_plan_branch(name);
        (edit.base, edit.parents) = (Some(main.clone()), Some(vec![main]));
        let made = copy.prepare(&edit).unwrap();
        assert_eq!(copy.reference(&edit.branch).unwrap(), None, "nothing moved here yet");
        made.commit
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn a_copy_follows_its_forge_and_forgets_what_is_gone_there() {
    let both = Both::new();
    both.upstream.open().unwrap();
    let missing = both.upstream.fetch().unwrap_err();
    assert!(missing.to_string().contains("main"), "{missing}");
    let main = both.there.commit("main", &[("requests/a.yaml", "text")], &[]);
    let plan = both.there.commit("chiffon/plan/a", &[("plans/a.yaml", "1")], &[&main]);
    both.upstream.fetch().unwrap();
    let copy = both.copy();
    assert_eq!(copy.reference(&RefName::branch("main").unwrap()).unwrap(), Some(main.clone()));
    assert_eq!(copy.reference(&RefName::forge_plan_branch(&name("a"))).unwrap(), Some(plan));
    assert_eq!(copy.reference(&RefName::plan_branch(&name("a"))).unwrap(), None);
    let other = both.there.commit("main", &[("requests/b.yaml", "another")], &[]);
    both.there.git(&["update-ref", "-d", "refs/heads/chiffon/plan/a"]);
    both.upstream.fetch().unwrap();
    assert_eq!(copy.reference(&RefName::branch("main").unwrap()).unwrap(), Some(other), "rewritten there as well");
    assert_eq!(copy.reference(&RefName::forge_plan_branch(&name("a"))).unwrap(), None);
}

#[test]
fn a_plan_branch_moves_only_from_where_it_was_seen() {
    let both = Both::new();
    both.there.commit("main", &[("requests/a.yaml", "text")], &[]);
    both.upstream.open().unwrap();
    both.upstream.fetch().unwrap();
    let (a, branch) = (name("a"), "refs/heads/chiffon/plan/a");
    let first = both.prepared(&a, "1");
    for _ in 0..2 {
        both.upstream.move_plan_branch(&a, Some(&first), None).unwrap();
    }
    assert_eq!(both.there.git(&["rev-parse", branch]).trim(), first.as_str());
    assert_eq!(both.copy().reference(&RefName::forge_plan_branch(&a)).unwrap(), Some(first.clone()));
    let theirs = both.there.commit("chiffon/plan/a", &[("plans/a.yaml", "edited")], &[&first]);
    let stale = both.upstream.move_plan_branch(&a, None, Some(&first)).unwrap_err();
    assert!(stale.is_stale(), "{stale}");
    assert_eq!(both.there.git(&["rev-parse", branch]).trim(), theirs.as_str(), "a person's edit is never lost");
    both.upstream.fetch().unwrap();
    both.upstream.move_plan_branch(&a, None, Some(&theirs)).unwrap();
    assert_eq!(both.copy().reference(&RefName::forge_plan_branch(&a)).unwrap(), None);
}

#[test]
fn s7_branches_that_look_like_options_are_copied_as_they_are_and_start_nothing() {
    let both = Both::new();
    let main = both.there.commit("main", &[("requests/a.yaml", "text")], &[]);
    for hostile in ["--upload-pack=id", "plan/--upload-pack=id", "plan/-x"] {
        both.there.git(&["update-ref", &format!("refs/heads/chiffon/{hostile}"), main.as_str()]);
    }
    both.upstream.open().unwrap();
    both.upstream.fetch().unwrap();
    assert_eq!(both.copy().reference(&RefName::branch("main").unwrap()).unwrap(), Some(main));
}

#[test]
fn the_audit_branch_there_is_never_overwritten_where_somebody_wrote() {
    let both = Both::new();
    let main = both.there.commit("main", &[("requests/a.yaml", "text")], &[]);
    both.upstream.open().unwrap();
    both.upstream.fetch().unwrap();
    both.upstream.move_audit(&main, None).unwrap();
    let theirs = both.there.commit("chiffon/audit", &[("status/a.md", "forged")], &[&main]);
    let next = both.prepared(&name("a"), "2");
    let stale = both.upstream.move_audit(&next, Some(&main)).unwrap_err();
    assert!(stale.is_stale(), "{stale}");
    both.upstream.fetch().unwrap();
    assert_eq!(both.copy().reference(&RefName::forge_audit()).unwrap(), Some(theirs));
}
