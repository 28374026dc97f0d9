//! Names, addresses and users replaced by a key.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use hedgerow_features::{place_of, process_file};

use hedgerow_offline::share::{Pseudonyms, check_columns};

fn pseudonyms() -> Pseudonyms {
    Pseudonyms::new([7; 32])
}

#[test]
fn what_the_rule_asks_of_a_path_is_the_same_afterwards() {
    let names = pseudonyms();
    let place = |path: &str| place_of(path).map(|place| place.name);
    for path in [
        "/etc/shadow",
        "/etc/cron.d/nightly-payroll",
        "/etc/ssh/ssh_host_rsa_key",
        "/home/carol/.ssh/id_ed25519",
        "/home/carol/.ssh/authorized_keys",
        "/home/carol/.config/gcloud/payroll/x",
        "/root/.ssh/known_hosts",
        "/proc/77/mem",
        "/proc/77/stat",
        "/srv/payroll/7/index.php",
        "/srv/cache/0af/9e/x",
        "/usr/bin/payrolld",
        "/var/lib/payroll/db",
        "relative/payroll.py",
        ".../payroll",
        "",
        "/",
    ] {
        let shared = names.path(path);
        assert_eq!(place(&shared), place(path), "{path} {shared}");
        let process = |path: &str| process_file(path).map(|(process, _)| process);
        assert_eq!(process(&shared), process(path), "{path} {shared}");
        assert_eq!(shared.matches('/').count(), path.matches('/').count(), "{path} {shared}");
        let extension = |path: &str| path.rsplit_once(".p").map(|(_, end)| end.to_owned());
        if path.ends_with("php") || path.ends_with("py") {
            assert_eq!(extension(&shared), extension(path));
        }
        for named in ["carol", "payroll", "nightly"] {
            assert!(!shared.contains(named), "{path} {shared}");
        }
        assert_eq!(names.path(path), shared, "the same by the same");
    }
    for kept in ["/usr/bin/ps", "/usr/sbin/sshd", "/bin/bash", "/usr/bin/dpkg", "(kernel)"] {
        assert_eq!(names.path(kept), kept);
    }
    // Files of one directory stay in one, of two in two.
    let directory = |path: &str| names.path(path).rsplit_once('/').unwrap().0.to_owned();
    assert_eq!(directory("/srv/a/x"), directory("/srv/a/y"));
    assert_ne!(directory("/srv/a/x"), directory("/srv/b/x"));
    let hexadecimal = names.path("/srv/cache/0af/x");
    assert!(hexadecimal.split('/').nth(3).unwrap().bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_ne!(Pseudonyms::new([8; 32]).path("/srv/a/x"), names.path("/srv/a/x"));
}

#[test]
fn workloads_and_users_are_others_and_kinds_of_them_stay() {
    let names = pseudonyms();
    assert_eq!(names.workload("host"), "host");
    assert!(!names.workload("payroll.service").contains("payroll"));
    assert_eq!(names.workload("login:0"), "login:0");
    let user = names.user(1000);
    assert_eq!(names.workload("login:1000"), format!("login:{user}"));
    assert!(![0, 1000, u32::MAX].contains(&user) && names.user(1001) != user);
    assert_eq!((names.user(0), names.user(u32::MAX)), (0, u32::MAX));
}

#[test]
fn addresses_stay_of_their_kind_and_network_and_different_ones_different() {
    let names = pseudonyms();
    let shared = |text: &str| -> IpAddr { names.address(text).parse().unwrap() };
    for same in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.251", "::1", "::", "ff02::1"] {
        assert_eq!(names.address(same), same);
    }
    let begins = |text: &str, with: &str| {
        let shared = names.address(text);
        assert!(shared.starts_with(with) && shared != text, "{text} {shared}");
    };
    begins("10.1.2.3", "10.");
    begins("192.168.1.7", "192.168.");
    begins("fd12:3456::1", "fd");
    begins("fe80::1234", "fe80:");
    begins("::ffff:198.51.100.7", "::ffff:");
    begins("64:ff9b::c633:6407", "64:ff9b::");
    let mut public = BTreeSet::new();
    for number in 0..600u32 {
        let address = format!("{}.{}.9.{}", 20 + number % 60, number / 60, number % 256);
        let IpAddr::V4(to) = shared(&address) else { panic!() };
        assert!(!to.is_private() && !to.is_loopback() && !to.is_multicast(), "{to}");
        public.insert(to);
    }
    assert_eq!(public.len(), 600);
    let all: BTreeSet<IpAddr> = (0..256).map(|last| shared(&format!("192.0.2.{last}"))).collect();
    assert_eq!(all.len(), 256, "a permutation");
    let network = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.to_bits() >> 8,
        IpAddr::V6(_) => 0,
    };
    assert_eq!(all.iter().map(network).collect::<BTreeSet<_>>().len(), 1);
    let in_six = |text: &str| match shared(text) {
        IpAddr::V6(v6) => v6.to_bits() >> 64,
        IpAddr::V4(_) => 0,
    };
    assert_eq!(in_six("2001:db8::1"), in_six("2001:db8::2"));
    assert_ne!(in_six("2001:db8::1"), in_six("2001:db8:0:1::1"));
}

#[test]
fn every_column_of_text_has_a_treatment() {
    for schema in [hedgerow_features::records_schema(), hedgerow_features::schema()] {
        check_columns(Path::new("x"), &schema).unwrap();
    }
    let field = arrow::datatypes::Field::new("spoken", arrow::datatypes::DataType::Utf8, true);
    let error = check_columns(Path::new("x"), &arrow::datatypes::Schema::new(vec![field]));
    assert!(error.unwrap_err().to_string().contains("spoken"));
}
