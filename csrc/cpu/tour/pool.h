// Threads for steps 7 and 8, kept between calls: they look for the next one for a while, then sleep.
//
// Starting a thread takes 50 us, waking one 20 us, and Linux may put it on the core of the thread that woke it and move
// it only at its next tick, up to 4 ms later (measured, Zen 4: layers of 4 ms then ran on one core half of the time).
// Between calls that follow each other closely nothing sleeps, so nothing moves.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

class Pool {
 public:
  // body(begin, end) with contiguous shares of [0, count), one a thread; returns when all are done.
  void share(int threads, long count, const std::function<void(long, long)>& body) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (; size_ + 1 < threads; size_++) std::thread(&Pool::serve, this, size_ + 1L, call_.load()).detach();
      body_ = &body, count_ = count, threads_ = threads, left_ = threads - 1, call_++;
    }
    change_.notify_all();
    body(0, count / threads);
    wait([&] { return left_ == 0; });
  }

 private:
  void serve(long thread, long seen) {
    for (;;) {
      wait([&] { return call_ != seen; });
      std::unique_lock<std::mutex> lock(mutex_);
      seen = call_;
      if (thread >= threads_) continue;
      const long begin = count_ * thread / threads_, end = count_ * (thread + 1) / threads_;
      lock.unlock();
      (*body_)(begin, end);
      lock.lock();
      if (--left_ == 0) change_.notify_all();
    }
  }

  template <class Condition>
  void wait(const Condition& condition) {
    for (int i = 0; i < 4000; i++) {  // about 1 ms
      if (condition()) return;
      std::this_thread::yield();  // the thread that is waited for may want this core
    }
    std::unique_lock<std::mutex> lock(mutex_);
    change_.wait(lock, condition);
  }

  std::mutex mutex_;
  std::condition_variable change_;
  std::atomic<long> call_{0}, left_{0};
  const std::function<void(long, long)>* body_ = nullptr;
  long count_ = 0, threads_ = 0;
  int size_ = 0;  // threads beside the caller's
};

inline Pool& pool() {
  static Pool* const the = new Pool;  // never destroyed: its threads may still sleep in it when the process ends
  return *the;
}
