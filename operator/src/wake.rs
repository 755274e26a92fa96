//! Sets of objects that a controller should look at again.
//! Must not drop a wake: the same object is kept once until it is taken.

use std::hash::Hash;
use std::sync::Arc;

use futures::Stream;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use std::collections::HashSet;
use tokio::sync::Notify;

/// Wakes for one kind. Bounded by the number of objects: waking twice is waking once.
pub struct Wakes<K: Resource>(Arc<Inner<K>>)
where
    K::DynamicType: Eq + Hash + Clone;

struct Inner<K: Resource>
where
    K::DynamicType: Eq + Hash + Clone,
{
    waiting: Mutex<HashSet<ObjectRef<K>>>,
    notify: Notify,
}

impl<K: Resource> Clone for Wakes<K>
where
    K::DynamicType: Eq + Hash + Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Resource> Default for Wakes<K>
where
    K::DynamicType: Eq + Hash + Clone,
{
    fn default() -> Self {
        Self(Arc::new(Inner {
            waiting: Mutex::new(HashSet::new()),
            notify: Notify::new(),
        }))
    }
}

impl<K> Wakes<K>
where
    K: Resource<DynamicType = ()> + 'static,
{
    /// Asks for a look at this object.
    pub fn wake(&self, namespace: &str, name: &str) {
        let object = ObjectRef::new(name).within(namespace);
        if self.0.waiting.lock().insert(object) {
            self.0.notify.notify_one();
        }
    }

    /// Every wake from now on, in no order. One reader only.
    pub fn stream(&self) -> impl Stream<Item = ObjectRef<K>> + Send + use<K> {
        futures::stream::unfold(self.0.clone(), |inner| async move {
            loop {
                let next = inner.take();
                if let Some(object) = next {
                    return Some((object, inner));
                }
                inner.notify.notified().await;
            }
        })
    }
}

impl<K: Resource> Inner<K>
where
    K::DynamicType: Eq + Hash + Clone,
{
    fn take(&self) -> Option<ObjectRef<K>> {
        let mut waiting = self.waiting.lock();
        let next = waiting.iter().next().cloned()?;
        waiting.remove(&next);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::Runner;
    use futures::StreamExt;

    #[tokio::test]
    async fn an_object_that_is_woken_twice_is_looked_at_once() {
        let wakes = Wakes::<Runner>::default();
        wakes.wake("a", "fast");
        wakes.wake("a", "fast");
        wakes.wake("b", "fast");
        let mut stream = Box::pin(wakes.stream());
        let mut seen = vec![stream.next().await.unwrap(), stream.next().await.unwrap()];
        seen.sort_by_key(|object| object.namespace.clone());
        assert_eq!(
            seen,
            [
                ObjectRef::new("fast").within("a"),
                ObjectRef::new("fast").within("b")
            ]
        );
        assert!(futures::poll!(stream.next()).is_pending());
        wakes.wake("a", "fast");
        assert!(futures::poll!(stream.next()).is_ready());
    }
}
