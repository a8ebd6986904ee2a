# SPDX-License-Identifier: Apache-2.0
import os, socket, sys, threading

def inner():
    raise ValueError("told to")

mode = sys.argv[1]
if mode == "hello":
    print("Hello, World!")
elif mode == "stdin":
    sys.stdout.write(sys.stdin.read())
elif mode == "args":
    print("".join(f"[{a}]" for a in sys.argv[2:]))
elif mode == "env":
    print(os.environ["GREETING"])
elif mode == "exit":
    sys.exit(3)
elif mode == "throw":
    inner()
elif mode == "loop":
    while True:
        pass
elif mode == "alloc":
    print(len(bytearray(b"x") * (1 << 30)))
elif mode == "flood":
    sys.stdout.write("x" * 10485760)
elif mode == "threads":
    results = []
    threads = [threading.Thread(target=results.append, args=(i,)) for i in (1, 2, 3, 4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(sum(results))
elif mode == "write":
    open("/work/outputs/made.txt", "w").write("made here\n")
elif mode == "read":
    sys.stdout.write(open("in.txt").read())
elif mode == "net":
    try:
        socket.create_connection(("1.1.1.1", 80), 2)
        print("connected")
    except OSError:
        print("none")
