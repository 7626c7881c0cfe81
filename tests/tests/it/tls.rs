//! Every line in TLS, with certificates of an authority that only a file vouches for (S14).

use std::fs;

use chiffon_tests::{Authority, Bed, Merge, Service};

const HERE: &str = "127.0.0.1";

/// A broker and a database that show certificates for a name, and their authority.
fn services(name: &str) -> (Authority, Service, Service) {
    let authority = Authority::new();
    let (broker, database) = (authority.sign(name), authority.sign(name));
    (authority, Service::rabbitmq(&broker.files()), Service::postgres(&database.files()))
}

/// A home whose every line speaks TLS: to the broker, to its management, to the database, and from agents.
fn home(broker: &Service, database: &Service, authority: &Authority) -> Bed {
    let bed = Bed::new();
    let (home, door) = (bed.home(), authority.sign(HERE));
    for (file, text) in [("ca.pem", &authority.pem()), ("door.pem", &door.cert), ("door-key.pem", &door.key)] {
        fs::write(home.join(file), text).unwrap();
    }
    bed.keep_records_at(database.address("CHIFFON_TEST_POSTGRES_URL"));
    bed.join_broker_of(broker);
    let mut text = fs::read_to_string(home.join("chiffon.yaml")).unwrap();
    for (plain, safe) in [
        ("CHIFFON_TEST_AMQP_URL", "CHIFFON_TEST_AMQPS_URL"),
        ("CHIFFON_TEST_AMQP_MANAGEMENT_URL", "CHIFFON_TEST_AMQPS_MANAGEMENT_URL"),
    ] {
        let place = |name| broker.address(name).rsplit_once('@').unwrap().1;
        assert!(text.contains(place(plain)), "{text}");
        text = text.replace(place(plain), place(safe));
    }
    let database = database.address("CHIFFON_TEST_POSTGRES_URL");
    let text = text
        .replace(database, &format!("{database}?sslmode=verify-full\n      ca_file: ca.pem"))
        .replace("amqp://", "amqps://")
        .replace("url: http://", "url: https://")
        .replace("-password\n", "-password\n      ca_file: ca.pem\n")
        + "    tls: {cert_file: door.pem, key_file: door-key.pem}\n";
    fs::write(home.join("chiffon.yaml"), text).unwrap();
    bed
}

/// What doctor says of the broker and of the database, where no `ca_file` is named.
fn without_authority(bed: &Bed) -> String {
    let config = bed.home().join("chiffon.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("      ca_file: ca.pem\n", "")).unwrap();
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    fs::write(&config, text).unwrap();
    said
}

#[test]
fn s14_a_request_is_carried_out_with_every_line_in_tls_by_an_authority_of_ones_own() {
    let (authority, broker, database) = services(HERE);
    let bed = home(&broker, &database, &authority);
    bed.chiffon(&["broker", "setup"]).ends(0);
    bed.chiffon(&["doctor"]).ends(0);
    let mut up = bed.up();
    let invited = bed.chiffon(&["agent", "invite", "nas01", "--json"]).ends(0).json();
    let (url, token) = (invited["url"].as_str().unwrap(), invited["token"].as_str().unwrap());
    assert!(url.starts_with("https://"), "{url}");
    let said = bed.enrol_with("nas01", url, token).ends(1).err;
    assert!(said.contains("certificate"), "a certificate that nobody vouches for is refused: {said}");
    let ca = bed.home().join("ca.pem");
    bed.enrol_believing("nas01", url, token, &ca).ends(0);
    let agent = fs::read_to_string(bed.agent_home("nas01").join("agent.yaml")).unwrap();
    assert!(agent.contains("amqps://") && agent.contains("ca_file"), "{agent}");
    bed.agent("nas01", &["doctor"]).ends(0);
    let agent = bed.start_agent("nas01");
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    bed.approve("journal", Merge::Commit);
    up.wait_for("journal: succeeded");
    for program in [agent, up] {
        program.signal("TERM");
        assert_eq!(program.end(), 0);
    }
    let said = without_authority(&bed);
    for line in ["FAIL broker: ", "FAIL database: "] {
        let line = said.lines().find(|said| said.starts_with(line)).unwrap_or_else(|| panic!("{line}: {said}"));
        assert!(line.contains("certificate"), "{line}");
    }
}

#[test]
fn s14_a_certificate_for_another_name_is_refused() {
    let (authority, broker, database) = services("elsewhere.lan");
    let bed = home(&broker, &database, &authority);
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    for line in ["FAIL broker: ", "FAIL database: "] {
        let line = said.lines().find(|said| said.starts_with(line)).unwrap_or_else(|| panic!("{line}: {said}"));
        assert!(line.contains("certificate") && line.contains("elsewhere.lan"), "{line}");
    }
    let said = bed.chiffon(&["broker", "setup"]).ends(1).err;
    assert!(said.contains("certificate"), "{said}");
}
