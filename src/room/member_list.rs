//! The list of a room's members: cheap to share, and cheap to change while it is shared.

use std::sync::Arc;

use crate::room::Member;

/// The most members in a chunk.
const CHUNK: usize = 256;

/// Some members that follow one another.
pub(crate) type Chunk<H> = Arc<Vec<Arc<Member<H>>>>;

/// The members of a room on this node, in the order of their places.
///
/// A clone shares everything. While a clone exists, a change copies only the chunk that it is in, so that members can
/// enter and leave a large room while a batch is being delivered to it.
#[derive(Debug)]
pub(crate) struct MemberList<H> {
    len: usize,
    /// Most rooms have no other one. It is only empty if the list is.
    first: Chunk<H>,
    /// The chunks after the first one. None of them is empty.
    rest: Option<Arc<Vec<Chunk<H>>>>,
}

impl<H> Clone for MemberList<H> {
    fn clone(&self) -> MemberList<H> {
        MemberList { len: self.len, first: self.first.clone(), rest: self.rest.clone() }
    }
}

impl<H> Default for MemberList<H> {
    fn default() -> MemberList<H> {
        MemberList { len: 0, first: Arc::default(), rest: None }
    }
}

impl<H> FromIterator<Arc<Member<H>>> for MemberList<H> {
    /// The members must be in the order of their places.
    fn from_iter<I: IntoIterator<Item = Arc<Member<H>>>>(members: I) -> MemberList<H> {
        let mut list = MemberList::default();
        members.into_iter().for_each(|member| list.push(member));
        list
    }
}

impl<H> MemberList<H> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk<H>> {
        std::iter::once(&self.first).chain(self.rest())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Member<H>>> {
        self.chunks().flat_map(|chunk| chunk.iter())
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Arc<Member<H>>> {
        let (chunk, at) = self.locate(at);
        self.chunks().nth(chunk)?.get(at)
    }

    /// The members with higher places than this one.
    pub(super) fn after(&self, place: u64) -> impl Iterator<Item = &Arc<Member<H>>> {
        self.chunks()
            .skip_while(move |chunk| chunk.last().is_none_or(|last| last.place <= place))
            .flat_map(|chunk| chunk.iter())
            .skip_while(move |member| member.place <= place)
    }

    /// How many members have lower places than this one.
    pub(super) fn count_before(&self, place: u64) -> usize {
        let mut count = 0;
        for chunk in self.chunks() {
            let before = chunk.partition_point(|member| member.place < place);
            count += before;
            if before < chunk.len() {
                break;
            }
        }
        count
    }

    /// Adds a member whose place is the highest.
    pub(super) fn push(&mut self, member: Arc<Member<H>>) {
        self.len += 1;
        let last = match &mut self.rest {
            Some(rest) => Arc::make_mut(rest).last_mut(),
            None => Some(&mut self.first),
        };
        match last.filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => Arc::make_mut(chunk).push(member),
            None => Arc::make_mut(self.rest.get_or_insert_default()).push(Arc::new(vec![member])),
        }
    }

    /// Inserts a member so that this many are before it.
    pub(super) fn insert(&mut self, at: usize, member: Arc<Member<H>>) {
        if at == self.len {
            return self.push(member);
        }
        self.len += 1;
        let (number, at) = self.locate(at);
        let chunk = Arc::make_mut(self.chunk_mut(number));
        chunk.insert(at, member);
        if chunk.len() > CHUNK {
            let second = Arc::new(chunk.split_off(CHUNK / 2));
            Arc::make_mut(self.rest.get_or_insert_default()).insert(number, second);
        }
    }

    /// Removes the member that has this many before it.
    pub(super) fn remove(&mut self, at: usize) -> Arc<Member<H>> {
        let (number, at) = self.locate(at);
        self.len -= 1;
        let removed = Arc::make_mut(self.chunk_mut(number)).remove(at);
        if self.rest.is_some() {
            self.join(number);
            self.join(number.saturating_sub(1));
        }
        removed
    }

    /// Joins a chunk with the next one if both are small, so that the number of chunks stays in proportion.
    fn join(&mut self, number: usize) {
        let Some(rest) = self.rest.as_mut().map(Arc::make_mut) else { return };
        let len = |chunk: Option<&Chunk<H>>| chunk.map_or(0, |chunk| chunk.len());
        // The first chunk is not in `rest`, so this is the next one.
        let next = len(rest.get(number));
        let this = if number == 0 { self.first.len() } else { len(rest.get(number - 1)) };
        if this > 0 && (next == 0 || this + next > CHUNK / 2) {
            return;
        }
        let joined = (next > 0).then(|| rest.remove(number));
        let chunk = if number == 0 { &mut self.first } else { &mut rest[number - 1] };
        match joined {
            Some(next) if this == 0 => *chunk = next,
            Some(next) => Arc::make_mut(chunk).extend(next.iter().cloned()),
            None => drop(rest.pop()),
        }
        if rest.is_empty() {
            self.rest = None;
        }
    }

    fn rest(&self) -> &[Chunk<H>] {
        self.rest.as_ref().map_or(&[], |rest| rest.as_slice())
    }

    fn chunk_mut(&mut self, number: usize) -> &mut Chunk<H> {
        match (number, &mut self.rest) {
            (1.., Some(rest)) => &mut Arc::make_mut(rest)[number - 1],
            _ => &mut self.first,
        }
    }

    /// The number of a member's chunk, and the member's place in it.
    fn locate(&self, mut at: usize) -> (usize, usize) {
        for (number, chunk) in self.chunks().enumerate() {
            if at < chunk.len() {
                return (number, at);
            }
            at -= chunk.len();
        }
        (0, at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ConnectionId, MaxLen, Name};

    fn member(place: u64) -> Arc<Member<()>> {
        let name = Name::parse("Ann", MaxLen::ANY).unwrap();
        Arc::new(Member { id: ConnectionId(place), name, handle: (), place })
    }

    fn places(list: &MemberList<()>) -> Vec<u64> {
        list.iter().map(|member| member.place).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u64),
        Insert(u64),
        /// Removes this many members, beginning near this place.
        Remove(u64, usize),
        Share,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..400_u64).prop_map(Step::Push),
            any::<u64>().prop_map(Step::Insert),
            (any::<u64>(), 1..300_usize).prop_map(|(near, count)| Step::Remove(near, count)),
            Just(Step::Share),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_a_sorted_list_and_clones_do_not_change(steps in prop::collection::vec(step(), 1..60)) {
            let mut list = MemberList::default();
            // Places are even, so that there is one between any two.
            let (mut model, mut next, mut clones) = (Vec::new(), 2, Vec::new());
            for step in steps {
                match step {
                    Step::Push(count) => (0..count).for_each(|_| {
                        list.push(member(next));
                        model.push(next);
                        next += 2;
                    }),
                    Step::Insert(near) => {
                        let place = (near % next) | 1;
                        let at = list.count_before(place);
                        prop_assert_eq!(at, model.partition_point(|other| *other < place));
                        if model.get(at) != Some(&place) {
                            list.insert(at, member(place));
                            model.insert(at, place);
                        }
                    }
                    Step::Remove(near, count) => for _ in 0..count.min(model.len()) {
                        let at = near as usize % model.len();
                        prop_assert_eq!(list.remove(at).place, model.remove(at));
                    },
                    Step::Share => clones.push((list.clone(), model.clone())),
                }
                prop_assert_eq!(places(&list), &model[..]);
                prop_assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
                let chunks: Vec<usize> = list.chunks().map(|chunk| chunk.len()).collect();
                prop_assert!(chunks.iter().all(|len| *len <= CHUNK && (*len > 0 || model.is_empty())), "{:?}", chunks);
                let middle = model.len() / 2;
                prop_assert_eq!(list.get(middle).map(|member| member.place), model.get(middle).copied());
                let after: Vec<u64> = list.after(next / 2).map(|member| member.place).collect();
                prop_assert_eq!(after, model.iter().copied().filter(|place| *place > next / 2).collect::<Vec<_>>());
            }
            for (clone, model) in clones {
                prop_assert_eq!(places(&clone), model);
            }
        }
    }

    #[test]
    fn few_members_need_few_chunks() {
        let mut list: MemberList<()> = (0..10_000).map(member).collect();
        assert_eq!(list.chunks().count(), 10_000_usize.div_ceil(CHUNK));
        // One member in a hundred stays.
        for place in (0..10_000).filter(|place| place % 100 != 0) {
            list.remove(list.count_before(place));
        }
        assert_eq!(list.len(), 100);
        assert!(list.chunks().count() <= 3, "{}", list.chunks().count());
    }
}
