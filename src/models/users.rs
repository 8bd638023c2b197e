//! Users: no matter which of their sessions begin, end and are resumed at the same time, the host is told in turn that
//! a user is online and offline, and of its rooms only in between. [`World::assert_consistent`] checks that.

use shuttle::thread;

use super::check;
use super::world::{Client, World, at_once};
use crate::protocol::close::LeaveReason;

fn visit(client: Client) {
    assert!(client.enter("r"));
    client.end(LeaveReason::Closed);
}

#[test]
fn two_sessions_of_a_user_begin_and_end_at_the_same_time() {
    check(|| {
        let world = World::new();
        let visitor =
            |world: World| Box::new(move || visit(world.connect_user("u"))) as Box<dyn FnOnce() + Send>;
        at_once((0..3).map(|_| visitor(world.clone())).collect());
        assert!((1..=3).contains(&world.times_online("u")));
        world.assert_empty();
    });
}

/// The callbacks of the one that stays may have to wait for those of the others, which then must go on with them.
#[test]
fn a_session_that_begins_while_another_one_ends_is_told() {
    check(|| {
        let world = World::new();
        let (first, second) = (world.connect_user("u"), world.connect_user("u"));
        let staying = thread::spawn(move || {
            assert!(second.enter("r"));
            second
        });
        visit(first);
        let second = staying.join().unwrap();
        assert_eq!(world.times_online("u"), 1);
        world.assert_consistent();
        second.end(LeaveReason::Closed);
        assert_eq!(world.times_online("u"), 1);
        world.assert_empty();
    });
}

/// As above, but the user may be offline in between.
#[test]
fn a_user_that_comes_back_while_it_leaves_is_online() {
    check(|| {
        let world = World::new();
        let (first, other) = (world.connect_user("u"), world.clone());
        let coming = thread::spawn(move || {
            let second = other.connect_user("u");
            assert!(second.enter("r"));
            second
        });
        first.end(LeaveReason::Closed);
        let second = coming.join().unwrap();
        world.assert_consistent();
        second.end(LeaveReason::Closed);
        world.assert_empty();
    });
}

/// It is in no room, and its new connection has a session of its own until it has resumed the old one.
#[test]
fn a_user_that_resumes_was_online_all_the_time() {
    check(|| {
        let world = World::new();
        let first = world.connect_user("u");
        let (id, token) = (first.id(), first.token);
        let losing = thread::spawn(move || first.lose());
        let mut second = world.connect_user("u");
        assert!(second.resume(token, None));
        losing.join().unwrap();
        assert_eq!(second.id(), id);
        visit(second);
        assert_eq!(world.times_online("u"), 1);
        world.assert_empty();
    });
}

#[test]
fn a_session_of_a_user_ends_whatever_comes_together() {
    check(|| {
        let world = World::new();
        let (first, mut second) = (world.connect_user("u"), world.connect());
        assert!(first.enter("r"));
        let token = first.token;
        let [expirer, kicker, stopper] = [world.clone(), world.clone(), world.clone()];
        at_once(vec![
            Box::new(move || first.lose()),
            Box::new(move || {
                if second.authenticate("u") && !second.resume(token, None) {
                    second.enter("r");
                }
                second.serve();
            }),
            Box::new(move || expirer.expire()),
            Box::new(move || {
                kicker.kick_user("u");
            }),
            Box::new(move || stopper.shut_down()),
        ]);
        world.assert_empty();
    });
}

/// The host's task calls the callbacks, and no connection is left that the shutdown could wait for.
#[test]
fn a_shutdown_waits_for_callbacks_that_another_task_calls() {
    check(|| {
        let world = World::new();
        let client = world.connect_user("u");
        assert!(client.enter("r"));
        let [closer, stopper] = [world.clone(), world.clone()];
        at_once(vec![
            Box::new(move || {
                closer.engine().close_room("r");
            }),
            Box::new(move || {
                client.serve();
            }),
            Box::new(move || {
                stopper.shut_down();
                stopper.assert_empty();
            }),
        ]);
        world.assert_empty();
    });
}
