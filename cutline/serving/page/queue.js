// Runs jobs, few at a time, with back-off while the server is busy. Exports: Queue.

import { isTemporary } from "./server.js";

const LONGEST_WAIT = 30; // seconds

/**
 * A job has
 *   run(signal): a promise of its end; the signal aborts it
 *   isUrgent(): whether it starts before those that are not
 *   wait(error, seconds): called when it will be tried again
 *   fail(error): called when it will not
 */
export class Queue {
  #limit;
  #waiting = new Set();
  #running = new Map(); // job: its AbortController
  #failures = 0;
  #timer = 0;

  constructor(limit) {
    this.#limit = limit;
  }

  add(job) {
    this.#waiting.add(job);
    this.#start();
  }

  /** Take a job out; one that runs is aborted. */
  remove(job) {
    this.#waiting.delete(job);
    this.#running.get(job)?.abort();
    this.#running.delete(job);
    this.#start();
  }

  /** Return the number of jobs that are not done. */
  get size() {
    return this.#waiting.size + this.#running.size;
  }

  #start() {
    while (!this.#timer && this.#waiting.size && this.#running.size < this.#limit) {
      const jobs = [...this.#waiting];
      const job = jobs.find((each) => each.isUrgent()) ?? jobs[0];
      this.#waiting.delete(job);
      this.#run(job);
    }
  }

  async #run(job) {
    const controller = new AbortController();
    this.#running.set(job, controller);
    try {
      await job.run(controller.signal);
      this.#failures = 0;
    } catch (error) {
      if (controller.signal.aborted) return;
      if (isTemporary(error)) this.#postpone(job, error);
      else job.fail(error);
    } finally {
      if (this.#running.get(job) === controller) this.#running.delete(job);
      this.#start();
    }
  }

  /** Try a job again later; meanwhile none starts, since the next would be refused as well. */
  #postpone(job, error) {
    this.#waiting.add(job);
    if (!this.#timer) {
      this.#failures += 1;
      const random = 0.5 + Math.random() / 2; // so that many pages do not come back together
      const backOff = Math.min(LONGEST_WAIT, 2 ** (this.#failures - 1)) * random;
      this.seconds = Math.max(error.retryAfter, backOff);
      this.#timer = setTimeout(() => {
        this.#timer = 0;
        this.#start();
      }, 1000 * this.seconds);
    }
    job.wait(error, this.seconds);
  }
}
