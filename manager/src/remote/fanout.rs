//! The same call to many hosts: a bounded number at once, results in the order of the hosts.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Calls `call` for each item, `parallel_max` at once. The results come in the order of the
/// items; a call that fails or panics costs its own result only (`None` for a panic).
pub async fn each<T, R, F, Fut>(parallel_max: u32, items: Vec<T>, call: F) -> Vec<Option<R>>
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = R> + Send + 'static,
    R: Send + 'static,
{
    let places = Arc::new(Semaphore::new(parallel_max.max(1) as usize));
    let mut results: Vec<Option<R>> = Vec::new();
    results.resize_with(items.len(), || None);
    let mut tasks = JoinSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let work = call(item);
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            // The semaphore is never closed; without a place the work runs all the same.
            let _place = places.acquire_owned().await.ok();
            (index, work.await)
        });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((index, result)) = done
            && let Some(slot) = results.get_mut(index)
        {
            *slot = Some(result);
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::each;

    #[tokio::test]
    async fn results_keep_the_order_and_no_more_than_the_bound_run_at_once() {
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let results = each(4, (0..40_u64).collect(), |n| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100 - n)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                n
            }
        })
        .await;
        assert_eq!(results, (0..40).map(Some).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_result_only() {
        let results = each(8, vec![1, 2, 3], |n| async move {
            assert_ne!(n, 2, "this one falls");
            n
        })
        .await;
        assert_eq!(results, [Some(1), None, Some(3)]);
    }
}
