use std::fs;
use std::time::Duration;

use chiffon_requests::Locks;

use crate::bed::Bed;

#[test]
fn locks_without_an_owner_go_and_locks_of_a_push_stay() {
    let bed = Bed::new();
    let repo = bed.repo();
    let make = |path: &str| {
        let path = bed.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    };
    let audit = make("refs/heads/chiffon/audit.lock");
    let pin = make("refs/chiffon/pins/1.lock");
    let main = make("refs/heads/main.lock");
    let plan = make("refs/heads/chiffon/plan/kuma.lock");
    assert_eq!(repo.clear_locks(Locks::Own).len(), 2);
    assert!(!audit.exists() && !pin.exists() && main.exists());
    assert!(repo.clear_locks(Locks::PlanBranches).is_empty(), "a push may be under way");
    let file = fs::File::options().write(true).open(&plan).unwrap();
    file.set_modified(file.metadata().unwrap().modified().unwrap() - Duration::from_secs(61)).unwrap();
    assert_eq!(repo.clear_locks(Locks::PlanBranches).len(), 1);
    assert_eq!(repo.clear_locks(Locks::Mirror).len(), 1);
    assert!(!main.exists());
}
