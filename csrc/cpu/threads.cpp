// The threads that kernels run on: started when first needed, kept until there should be fewer, woken for each parallel
// region.
//
// A training step has a few hundred regions of 5 us to 5 ms each, with microseconds of Python between them. Waking a
// thread that the system has put to sleep takes 20 to 50 us, so a worker that has finished looks for the next region
// for kSpin before it sleeps; a barrier only ever spins. Where threads are more than cores a spinning one would keep
// the core from the one it waits for: then workers sleep at once, and who spins yields.
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime.h"

#ifdef __linux__
#include <sched.h>
#endif

namespace tinygen {

namespace {

constexpr std::chrono::microseconds kSpin(200);

struct Region {
  RegionBody* body;
  const void* context;
  int threads;
};

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int cores() {  // that this process may use
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

// Returns when done() holds, which is expected any moment.
template <class Done>
void spin(bool crowded, const Done& done) {
  for (int looks = 0; !done(); looks++) {
    if (looks < 2000 && !crowded)
      pause();
    else
      std::this_thread::yield();
  }
}

class Worker {
 public:
  std::thread thread;

  // Makes its thread leave, and waits for that; nothing else may use the worker meanwhile.
  void end() {
    ends_.store(true, std::memory_order_release);
    call();
    thread.join();
  }
  bool ends() const { return ends_.load(std::memory_order_acquire); }

  // Lets the worker run once more. `calls_` counts calls in steps of 2; the lowest bit says that the worker sleeps.
  void call() {
    const unsigned next = (calls_.load(std::memory_order_relaxed) & ~1u) + 2;
    if (calls_.exchange(next, std::memory_order_acq_rel) & 1) {
      mutex_.lock();  // so that the worker is inside wait(), not on its way there
      mutex_.unlock();
      wake_.notify_one();
    }
  }

  // Waits for a call after number `seen`; returns its number.
  unsigned wait(unsigned seen, bool may_spin) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    for (int looks = 1; may_spin; looks++) {
      const unsigned now = calls_.load(std::memory_order_acquire);
      if (now != seen) return now;
      pause();
      if (looks % 32 == 0 && std::chrono::steady_clock::now() > end) break;
    }
    std::unique_lock<std::mutex> lock(mutex_);
    unsigned expected = seen;
    if (calls_.compare_exchange_strong(expected, seen | 1, std::memory_order_acq_rel))
      wake_.wait(lock, [&] { return calls_.load(std::memory_order_acquire) != (seen | 1); });
    return calls_.load(std::memory_order_acquire);
  }

 private:
  std::atomic<bool> ends_{false};
  alignas(64) std::atomic<unsigned> calls_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

thread_local bool inside = false;  // a parallel region

class Pool {
 public:
  void run(int count, RegionBody* body, const void* context) noexcept {  // a share that throws ends the process
    std::lock_guard<std::mutex> one_region_at_a_time(busy_);
    region_ = {body, context, 1 + grow(count - 1)};
    crowded_.store(region_.threads > cores_, std::memory_order_relaxed);
    running_.store(region_.threads - 1, std::memory_order_relaxed);
    for (int i = 0; i < region_.threads - 1; i++) workers_[i]->call();
    inside = true;
    body(context, 0, region_.threads);
    inside = false;
    spin(crowded(), [&] { return running_.load(std::memory_order_acquire) == 0; });
  }

  // Ends the workers that regions of `count` threads do not need.
  void shrink(int count) {
    std::lock_guard<std::mutex> between_regions(busy_);
    while (static_cast<int>(workers_.size()) >= count) {
      workers_.back()->end();
      delete workers_.back();
      workers_.pop_back();
    }
  }

  void barrier(int threads) {
    const unsigned phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
    } else {
      spin(crowded(), [&] { return phase_.load(std::memory_order_acquire) != phase; });
    }
  }

 private:
  bool crowded() const { return crowded_.load(std::memory_order_relaxed); }

  // Starts threads until there are `count` workers; returns how many of them there are.
  int grow(int count) {
    while (static_cast<int>(workers_.size()) < count) {
      Worker* worker = new Worker;
      const int share = static_cast<int>(workers_.size()) + 1;
      try {
        worker->thread = std::thread([this, worker, share] { serve(worker, share); });
      } catch (const std::system_error&) {  // no more threads to be had: the others do the work
        delete worker;
        return share - 1;
      }
      workers_.push_back(worker);
    }
    return count;
  }

  void serve(Worker* worker, int share) noexcept {
    inside = true;
    for (unsigned seen = 0;;) {
      seen = worker->wait(seen, !crowded());
      if (worker->ends()) return;
      region_.body(region_.context, share, region_.threads);
      running_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex busy_;
  std::vector<Worker*> workers_;  // number i computes share i + 1
  Region region_ = {};
  const int cores_ = cores();
  std::atomic<bool> crowded_{false};  // more threads than cores
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> phase_{0};
};

std::atomic<int> wanted{1};
std::atomic<Pool*> current{nullptr};

// The pool of this process. It is never destroyed: at exit its workers are still waiting. A forked child has none of
// its parent's threads, so it forgets the parent's pool, and starts its own when it first needs one.
Pool& pool() {
  Pool* known = current.load(std::memory_order_acquire);
  if (known) return *known;
  static const int registered = pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); });
  (void)registered;
  Pool* made = new Pool;
  if (current.compare_exchange_strong(known, made, std::memory_order_acq_rel)) return *made;
  delete made;  // another thread was faster
  return *known;
}

}  // namespace

int threads() { return wanted.load(std::memory_order_relaxed); }

void set_threads(int count) {
  wanted = count < 1 ? 1 : count;
  if (Pool* known = current.load(std::memory_order_acquire)) known->shrink(wanted);
}

void run_region(int count, RegionBody* body, const void* context) {
  if (count <= 1 || inside)
    body(context, 0, 1);
  else
    pool().run(count, body, context);
}

void wait_for_region(int threads) {
  if (threads > 1) pool().barrier(threads);
}

}  // namespace tinygen
