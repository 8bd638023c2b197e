use super::*;
use proptest::prelude::*;

fn proxies() -> TrustedProxies {
    TrustedProxies::new(["127.0.0.1", "::1", "10.0.0.0/8", "fd00::/8"]).unwrap()
}

/// The client's address behind a peer; each header is a line.
fn client(proxies: &TrustedProxies, peer: &str, headers: &[(&'static str, &str)]) -> String {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    proxies.client(SocketAddr::new(peer.parse().unwrap(), 7), &map).to_string()
}

fn by_x(peer: &str, lines: &[&str]) -> String {
    client(&proxies(), peer, &lines.iter().map(|line| ("x-forwarded-for", *line)).collect::<Vec<_>>())
}

fn by_forwarded(lines: &[&str]) -> String {
    let headers: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
    client(&proxies().with_forwarded_header(), "10.0.0.1", &headers)
}

#[test]
fn only_trusted_proxies_and_the_chosen_header_are_read() {
    assert_eq!(by_x("192.0.2.9", &["198.51.100.1"]), "192.0.2.9:7");
    assert_eq!(
        client(&TrustedProxies::none(), "127.0.0.1", &[("x-forwarded-for", "1.2.3.4")]),
        "127.0.0.1:7"
    );
    assert_eq!(client(&proxies(), "10.0.0.1", &[("forwarded", "for=1.2.3.4")]), "10.0.0.1:7");
    let forwarded = proxies().with_forwarded_header();
    assert_eq!(client(&forwarded, "10.0.0.1", &[("x-forwarded-for", "1.2.3.4")]), "10.0.0.1:7");
}

#[test]
fn the_client_is_the_last_address_that_is_no_proxy() {
    for (lines, want) in [
        (&["198.51.100.1"][..], "198.51.100.1:0"),
        (&["1.1.1.1, 198.51.100.1"], "198.51.100.1:0"),
        (&["1.1.1.1, 198.51.100.1, 10.2.3.4"], "198.51.100.1:0"),
        (&["1.1.1.1", "198.51.100.1", "10.2.3.4,fd00::1"], "198.51.100.1:0"),
        (&["198.51.100.1:4711"], "198.51.100.1:4711"),
        (&["[2001:db8::1]:4711"], "[2001:db8::1]:4711"),
        (&["2001:db8::1"], "[2001:db8::1]:0"),
        // All are proxies: the first one is the client.
        (&["10.9.9.9, 10.2.3.4"], "10.9.9.9:0"),
        // A proxy that hides the address.
        (&["1.1.1.1, unknown"], "10.0.0.1:7"),
        (&["1.1.1.1, unknown, 10.2.3.4"], "10.2.3.4:0"),
        (&["1.1.1.1,"], "10.0.0.1:7"),
        (&[""], "10.0.0.1:7"),
        (&[], "10.0.0.1:7"),
    ] {
        assert_eq!(by_x("10.0.0.1", lines), want, "{lines:?}");
    }
    assert_eq!(by_x("::ffff:10.0.0.1", &["1.1.1.1"]), "1.1.1.1:0");
    assert_eq!(by_x("10.0.0.1", &["1.1.1.1, ::ffff:10.0.0.2"]), "1.1.1.1:0");
}

#[test]
fn forwarded_is_parsed_by_its_grammar() {
    for (lines, want) in [
        // Examples of the RFC.
        (&["for=192.0.2.43"][..], "192.0.2.43:0"),
        (&["For=\"[2001:db8:cafe::17]:4711\""], "[2001:db8:cafe::17]:4711"),
        (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60:0"),
        (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17:0"),
        (
            &["for=192.0.2.43", "for=198.51.100.17;by=203.0.113.60;proto=http;host=example.com"],
            "198.51.100.17:0",
        ),
        (&["for=_gazonk"], "10.0.0.1:7"),
        (&["for=\"_gazonk\", for=10.1.1.1"], "10.1.1.1:0"),
        (&["for=unknown"], "10.0.0.1:7"),
        (&["proto=https;FOR=\"192.0.2.43:_port\""], "192.0.2.43:0"),
        (&["for=\"[2001:db8::1]:_x\""], "[2001:db8::1]:0"),
        // Separators within quotes.
        (&["for=192.0.2.43;ext=\"a,for=9.9.9.9;\\\"\""], "192.0.2.43:0"),
        (&["for=\"192.0.2.4\\3\""], "192.0.2.43:0"),
        // An unknown node ends the search.
        (&["for=192.0.2.43, by=203.0.113.43"], "10.0.0.1:7"),
        (&["for=192.0.2.43, , for=10.1.1.1"], "192.0.2.43:0"),
        // A quote that the client left open does not reach into the proxy's own line...
        (&["for=\"9.9.9.9", "for=192.0.2.43"], "192.0.2.43:0"),
        // ... and on the same line nothing is trusted.
        (&["for=\"9.9.9.9, for=192.0.2.43"], "10.0.0.1:7"),
        (&["for=\"9.9.9.9, for=\"[2001:db8::1]\""], "10.0.0.1:7"),
        (&["for=9.9.9.9;for=192.0.2.43"], "10.0.0.1:7"),
        (&["for"], "10.0.0.1:7"),
        (&["for=, for=10.1.1.1"], "10.0.0.1:7"),
        (&["fo r=1.2.3.4"], "10.0.0.1:7"),
    ] {
        assert_eq!(by_forwarded(lines), want, "{lines:?}");
    }
}

#[test]
fn networks_are_parsed() {
    let network = |text| Network::parse(text).unwrap();
    let address = |text: &str| text.parse().unwrap();
    assert!(network("10.0.0.0/8").contains(address("10.255.0.1")));
    assert!(!network("10.0.0.0/8").contains(address("11.0.0.1")));
    assert!(network("10.1.2.3/8").contains(address("10.9.9.9")));
    assert!(network("0.0.0.0/0").contains(address("255.1.1.1")));
    assert!(!network("0.0.0.0/0").contains(address("2001:db8::1")));
    assert!(network("::/0").contains(address("2001:db8::1")));
    assert!(network("2001:db8::/33").contains(address("2001:db8:7fff::1")));
    assert!(!network("2001:db8::/33").contains(address("2001:db8:8000::1")));
    assert!(network("::ffff:10.0.0.0/104").contains(address("10.3.2.1")));
    assert!(network("127.0.0.1").contains(address("::ffff:127.0.0.1")));
    for bad in
        ["", "10.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "fd00::/129", "localhost", "1.2.3.4:80"]
    {
        let error = TrustedProxies::new([bad]).unwrap_err().to_string();
        assert!(error.contains(bad) && error.len() > 30, "{error}");
    }
}

proptest! {
    /// What a client sends does not change what the proxies have added.
    #[test]
    fn a_client_cannot_hide_its_address(sent in "[ -~]{0,60}", hops in 0u8..4) {
        let mut line = format!("{sent}, 198.51.100.7");
        let mut forwarded = vec![sent.clone(), "for=198.51.100.7".to_owned()];
        for hop in 0..hops {
            line.push_str(&format!(", 10.0.0.{hop}"));
            forwarded.push(format!("for=10.0.0.{hop}"));
        }
        prop_assert_eq!(by_x("10.0.0.1", &[line.as_str()]), "198.51.100.7:0");
        let lines: Vec<&str> = forwarded.iter().map(String::as_str).collect();
        prop_assert_eq!(by_forwarded(&lines), "198.51.100.7:0");
        // On the same line it can make the line malformed; then it counts as the proxy, and as nobody else.
        let one = by_forwarded(&[&forwarded.join(", ")]);
        let hidden = one.starts_with("10.0.0.");
        prop_assert!(hidden || one == "198.51.100.7:0", "{}", one);
    }

    #[test]
    fn no_header_panics(lines in proptest::collection::vec("[ -~]{0,80}", 0..4), tricky in "[fFor=\"\\\\,;:\\[\\] 1.]{0,40}") {
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines.push(&tricky);
        by_x("10.0.0.1", &lines);
        by_forwarded(&lines);
        let _ = (parse_node(&tricky), Network::parse(&tricky));
    }

    #[test]
    fn addresses_round_trip(v4: u32, v6: u128, port in 1u16..) {
        for address in [IpAddr::from(v4.to_be_bytes()), IpAddr::from(v6.to_be_bytes())] {
            let socket = SocketAddr::new(address, port);
            prop_assert_eq!(parse_node(&address.to_string()), Some(SocketAddr::new(address, 0)));
            prop_assert_eq!(parse_node(&socket.to_string()), Some(socket));
            let line = format!("for=\"{socket}\"");
            prop_assert_eq!(parse_forwarded(&line), vec![Some(socket)]);
        }
    }

    /// Compared with the bits one by one.
    #[test]
    fn a_network_is_its_first_bits(own: u32, other: u32, bits in 0u32..=32, flip in 0u32..32) {
        let network = Network { address: IpAddr::from(own.to_be_bytes()), bits };
        let same = |other: u32| (0..bits).all(|bit| (own ^ other) >> (31 - bit) & 1 == 0);
        for other in [other, own ^ (1 << flip)] {
            prop_assert_eq!(network.contains(IpAddr::from(other.to_be_bytes())), same(other));
        }
    }
}

#[test]
fn the_log_says_what_is_trusted() {
    assert_eq!(TrustedProxies::none().summary(), "none");
    assert_eq!(proxies().summary(), "127.0.0.1, ::1, 10.0.0.0/8, fd00::/8 (X-Forwarded-For)");
    let proxy = TrustedProxies::new(["10.0.0.1"]).unwrap().with_forwarded_header();
    assert_eq!(proxy.summary(), "10.0.0.1 (Forwarded)");
}
