//! Users: sessions of a user begin, end and are resumed at the same time. `online` and `offline` must alternate, and
//! the user's enters and leaves must come between them. [`World::assert_consistent`] checks that.

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

/// The callbacks of the second session may have to wait for those of the first, whose task must then call them.
#[test]
fn a_session_acts_while_another_one_of_its_user_ends() {
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
fn a_user_that_reconnects_while_its_last_session_ends_is_online() {
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

/// The user is in no room. Its new connection has a session of its own until it has resumed the old one.
#[test]
fn a_user_that_resumes_its_session_stays_online() {
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
fn a_users_session_ends_once_under_concurrent_operations() {
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

/// The task that closes the room calls the callbacks, and no connection is left that the shutdown could wait for.
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
