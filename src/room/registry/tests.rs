use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::{ConnectionId, MaxLen, Name};
use crate::protocol::outbound::Head;
use crate::protocol::wire::Wire;
use crate::room::room::{JoinError, Member};

const MAX_ROOMS: usize = 3;
const MAX_MEMBERS: usize = 4;
const NOW: Duration = Duration::ZERO;
const HEAD: Head<'_> = Head { plain: "{", v1: "{", tail: "\"num\":" };

/// What the rooms must look like, kept in the simplest way.
#[derive(Default)]
struct Model {
    /// Who is in which room, in the order of coming.
    rooms: BTreeMap<u8, Vec<u64>>,
}

#[derive(Debug, Clone)]
enum Op {
    Enter { who: u64, room: u8 },
    Leave { who: u64 },
    Move { who: u64, room: u8 },
    Say { who: u64 },
    Close { room: u8 },
}

fn any_op() -> impl Strategy<Value = Op> {
    let (who, room) = (0u64..8, 0u8..5);
    prop_oneof![
        4 => (who.clone(), room.clone()).prop_map(|(who, room)| Op::Enter { who, room }),
        2 => who.clone().prop_map(|who| Op::Leave { who }),
        2 => (who.clone(), room.clone()).prop_map(|(who, room)| Op::Move { who, room }),
        2 => who.prop_map(|who| Op::Say { who }),
        1 => room.prop_map(|room| Op::Close { room }),
    ]
}

fn member(who: u64) -> Member<u64> {
    let name = Name::parse(&format!("n{who}"), MaxLen::ANY).unwrap();
    let wire = if who.is_multiple_of(2) { Wire::Plain } else { Wire::V1 };
    Member { id: ConnectionId(who), name, user: None, wire, link: who }
}

fn id(room: u8) -> RoomId {
    format!("__proto__{room}").into()
}

/// The `num`s of the frames that are queued, the same by every wire by which somebody listens.
fn nums(room: &mut Room<u64>) -> Vec<usize> {
    let before = room.stream().position();
    let (members, batch) = room.take();
    let mut nums = Vec::new();
    for wire in [Wire::Plain, Wire::V1] {
        if members.iter().any(|m| m.wire == wire) {
            nums.push(read(batch.frames(0, wire).0, wire, before));
        }
    }
    nums.dedup();
    assert!(nums.len() <= 1, "{nums:?}");
    nums.pop().unwrap_or_default()
}

fn read(mut bytes: &[u8], wire: Wire, end: u64) -> Vec<usize> {
    let (mut nums, mut seqs) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let (frame, rest) = bytes.split_at(crate::protocol::frame::frame_len(bytes));
        let value: serde_json::Value = serde_json::from_slice(&frame[2..]).unwrap();
        nums.push(value["num"].as_u64().unwrap() as usize);
        seqs.extend(value["seq"].as_u64());
        bytes = rest;
    }
    let numbered = if wire == Wire::V1 { nums.len() as u64 } else { 0 };
    assert!(seqs.into_iter().eq(end - numbered + 1..=end));
    nums
}

proptest! {
    /// Whatever is done in whatever order, members and counts are those of the model, every
    /// count on the wire is right, and an empty room is not kept.
    #[test]
    fn rooms_are_those_of_the_model(ops in prop::collection::vec(any_op(), 1..80)) {
        let registry: Registry<u64> = Registry::new(Some(History::last(3)), UniqueNames::Off);
        let mut model = Model::default();
        let mut seats: BTreeMap<u64, Arc<SharedRoom<u64>>> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Enter { who, room } if !seats.contains_key(&who) => {
                    let got = registry.open(&id(room), MAX_ROOMS, |shared, state| {
                        state.join(member(who), MAX_MEMBERS, &HEAD, NOW).map(|_| shared.clone())
                    });
                    let members = model.rooms.get(&room).map_or(0, Vec::len);
                    let room_is_new = members == 0;
                    match got {
                        Err(TooManyRooms) => prop_assert!(room_is_new && model.rooms.len() == MAX_ROOMS),
                        Ok(Err(e)) => prop_assert!(e == JoinError::Full && members == MAX_MEMBERS),
                        Ok(Ok(shared)) => {
                            model.rooms.entry(room).or_default().push(who);
                            let n = members + 1;
                            prop_assert_eq!(nums(&mut shared.lock()), [n]);
                            seats.insert(who, shared);
                        }
                    }
                }
                Op::Leave { who } => {
                    let Some(shared) = seats.remove(&who) else { continue };
                    let was = registry.visit(&shared, |_, room| room.leave(ConnectionId(who), "{\"num\":", NOW));
                    prop_assert!(was);
                    prop_assert!(!registry.visit(&shared, |_, room| room.leave(ConnectionId(who), "", NOW)));
                    forget(&mut model, who);
                    let n = shared.online();
                    let said = nums(&mut shared.lock());
                    let want: Vec<usize> = (n > 0).then_some(n).into_iter().collect();
                    prop_assert_eq!(said, want);
                }
                Op::Move { who, room } => {
                    let Some(old) = seats.get(&who).cloned() else { continue };
                    if old.id() == &id(room) {
                        continue;
                    }
                    let kept = registry.open(&id(room), MAX_ROOMS, |shared, state| {
                        state.reserve(&member(who), MAX_MEMBERS).map(|()| shared.clone())
                    });
                    let Ok(Ok(new)) = kept else {
                        prop_assert!(old.lock().members().iter().any(|m| m.id.0 == who));
                        continue;
                    };
                    registry.visit(&old, |_, room| room.leave(ConnectionId(who), "{\"num\":", NOW));
                    nums(&mut old.lock());
                    registry.visit(&new, |_, room| room.join_reserved(member(who), &HEAD, NOW));
                    forget(&mut model, who);
                    model.rooms.entry(room).or_default().push(who);
                    prop_assert_eq!(nums(&mut new.lock()), [new.online()]);
                    seats.insert(who, new);
                }
                Op::Say { who } => {
                    let Some(shared) = seats.get(&who) else { continue };
                    let mut room = shared.lock();
                    room.say(&HEAD, NOW);
                    let n = room.online();
                    prop_assert_eq!(nums(&mut room), [n]);
                }
                Op::Close { room } => {
                    let members = model.rooms.remove(&room).unwrap_or_default();
                    let closed = registry.close(id(room).as_str());
                    prop_assert_eq!(closed.is_some(), !members.is_empty());
                    for who in members {
                        let shared = seats.remove(&who).unwrap();
                        let was = registry.visit(&shared, |_, room| room.leave(ConnectionId(who), "{\"num\":", NOW));
                        prop_assert!(was);
                        prop_assert!(nums(&mut shared.lock()).is_empty());
                    }
                }
                Op::Enter { .. } => {}
            }
            prop_assert_eq!(registry.len(), model.rooms.len());
            for (room, members) in &model.rooms {
                let shared = registry.get(id(*room).as_str()).unwrap();
                let got: Vec<u64> = shared.lock().members().iter().map(|m| m.link).collect();
                prop_assert_eq!(&got, members);
                prop_assert_eq!(shared.online(), members.len());
            }
        }
        for (who, shared) in seats {
            registry.visit(&shared, |_, room| room.leave(ConnectionId(who), "", NOW));
        }
        prop_assert_eq!(registry.len(), 0);
        prop_assert!(registry.all().is_empty());
    }
}

fn forget(model: &mut Model, who: u64) {
    for members in model.rooms.values_mut() {
        members.retain(|w| *w != who);
    }
    model.rooms.retain(|_, members| !members.is_empty());
}
