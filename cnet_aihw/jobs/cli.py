"""The command `cnet-aihw`: its door, which imports nothing until signals end it well."""

import atexit
import logging
import sys

from cnet_aihw.runtime.stopping import ignore_signals, stoppable


def main() -> None:
    """Run the job that the command line describes, or the doctor.

    Exits with 2 and one line on stderr for errors of the user (with Python's whole trace when the
    environment has HYDRA_FULL_ERROR=1). Ctrl-C, SIGTERM and SIGHUP end it with one line and 128 +
    the number of the signal.
    """
    with stoppable() as stop:
        try:
            words = sys.argv[1:]
            if words[:1] == ["doctor"]:
                from cnet_aihw.doctor.command import doctor

                sys.exit(doctor(words[1:]))
            from cnet_aihw.jobs.application import run

            run(words, stop)
        except (KeyboardInterrupt, Exception) as error:
            # a library may have turned the interrupt into an error of its own
            if not (isinstance(error, KeyboardInterrupt) or stop.number):
                raise
            ignore_signals()
            atexit.register(logging.disable)  # how to resume is the last line, not what torch logs
            print(f"cnet-aihw: {stop.message}", file=sys.stderr, flush=True)
            sys.exit(stop.exit_code)


if __name__ == "__main__":
    main()
