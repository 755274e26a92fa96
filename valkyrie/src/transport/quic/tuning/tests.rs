//! The rules for quinn, one assertion each.
//! Must not be loosened: every bound here was found by something that broke.

use super::*;

/// The settings as quinn holds them; it offers no getters, only its debug form.
fn held(tuning: &Tuning) -> String {
    format!("{:?}", tuning.transport_config())
}

#[test]
fn the_send_buffer_holds_all_budgets_and_what_leaves_without_asking() {
    let streams = u64::from(Limits::default().streams_most);
    let at_once = 2 * streams * crate::qos::SMALL as u64;
    // And as much again of control, in its burst.
    let control = crate::qos::QosPolicy::default().control.burst;
    assert!(crate::qos::ALL_BUDGETS + at_once + control <= SEND_WINDOW);
}

#[test]
fn a_stream_window_over_1_mib_is_never_set() {
    const { assert!(STREAM_WINDOW <= 1024 * 1024) };
    let held = held(&Tuning::client(&Limits::default()));
    assert!(
        held.contains(&format!("stream_receive_window: {STREAM_WINDOW},")),
        "{held}"
    );
}

#[test]
fn send_and_receive_windows_are_bounded() {
    for tuning in [
        Tuning::client(&Limits::default()),
        Tuning::server(&Limits::default()),
    ] {
        let held = held(&tuning);
        assert!(
            held.contains(&format!("send_window: {SEND_WINDOW},")),
            "{held}"
        );
        assert!(
            held.contains(&format!("receive_window: {},", tuning.unread)),
            "{held}"
        );
    }
    const { assert!(SEND_WINDOW <= 8 * 1024 * 1024 && CONNECTION_WINDOW <= 8 * 1024 * 1024) };
}

#[test]
fn an_unauthenticated_peer_gets_four_streams_and_64_kib() {
    let tuning = Tuning::server(&Limits::default());
    assert_eq!((tuning.streams, tuning.unread), (4, 65_536));
    let held = held(&tuning);
    assert!(held.contains("max_concurrent_bidi_streams: 4,"), "{held}");
    assert!(held.contains("max_concurrent_uni_streams: 0,"), "{held}");
}

#[test]
fn a_server_that_was_checked_gets_28_streams_at_first() {
    let held = held(&Tuning::client(&Limits::default()));
    assert!(held.contains("max_concurrent_bidi_streams: 28,"), "{held}");
}

#[test]
fn only_the_dialing_side_keeps_alive_every_15_s_and_both_end_after_45_s_of_silence() {
    let client = held(&Tuning::client(&Limits::default()));
    let server = held(&Tuning::server(&Limits::default()));
    assert!(
        client.contains("keep_alive_interval: Some(15s)"),
        "{client}"
    );
    assert!(server.contains("keep_alive_interval: None"), "{server}");
    for held in [client, server] {
        assert!(held.contains("max_idle_timeout: Some(45000)"), "{held}");
    }
}

#[test]
fn a_batch_of_packets_fits_one_udp_send() {
    const { assert!(MTU as u32 * SEGMENTS <= MAX_UDP) };
    let held = held(&Tuning::server(&Limits::default()));
    assert!(held.contains(&format!("upper_bound: {MTU},")), "{held}");
}

#[test]
fn the_memory_of_waiting_connections_is_lowered() {
    let held = {
        let domain = crate::identity::TrustDomain::parse("t.example").unwrap();
        let bundle = crate::identity::TrustBundle::empty(domain);
        let store = crate::identity::IdentityStore::anonymous(bundle);
        let tls = crate::identity::tls::server_config(&store).unwrap();
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = Tuning::server(&Limits::default()).server_config(Arc::new(crypto));
        format!("{config:?}")
    };
    for bound in [
        "max_incoming: 4096",
        "incoming_buffer_size: 65536",
        "incoming_buffer_size_total: 16777216",
    ] {
        assert!(held.contains(bound), "{bound} in {held}");
    }
}

#[test]
fn retry_comes_only_under_pressure() {
    assert_eq!(admit(0, 512, false), Admission::Accept);
    assert_eq!(admit(64, 512, false), Admission::Accept);
    assert_eq!(admit(65, 512, false), Admission::Retry);
    assert_eq!(admit(65, 512, true), Admission::Accept);
    assert_eq!(admit(512, 512, true), Admission::Refuse);
}
