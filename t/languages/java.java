// SPDX-License-Identifier: Apache-2.0
import java.net.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.atomic.AtomicInteger;

public class Kitchen {
    static void inner() { throw new IllegalStateException("told to"); }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
        case "hello": System.out.println("Hello, World!"); break;
        case "stdin": System.in.transferTo(System.out); System.out.flush(); break;
        case "args":
            for (String a : Arrays.copyOfRange(args, 1, args.length)) System.out.print("[" + a + "]");
            System.out.println();
            break;
        case "env": System.out.println(System.getenv("GREETING")); break;
        case "exit": System.exit(3);
        case "throw": inner(); break;
        case "loop": for (long i = 0;; i++) if (i < 0) break; break;
        case "alloc": {
            List<byte[]> all = new ArrayList<>();
            for (int i = 0; i < 64; i++) { all.add(new byte[1 << 24]); Arrays.fill(all.get(i), (byte) 'x'); }
            System.out.println(all.size());
            break;
        }
        case "flood": System.out.print("x".repeat(10485760)); break;
        case "threads": {
            AtomicInteger sum = new AtomicInteger();
            List<Thread> threads = new ArrayList<>();
            for (int i = 1; i <= 4; i++) { int n = i; Thread t = new Thread(() -> sum.addAndGet(n)); t.start(); threads.add(t); }
            for (Thread t : threads) t.join();
            System.out.println(sum.get());
            break;
        }
        case "write": Files.writeString(Path.of("/work/outputs/made.txt"), "made here\n"); break;
        case "read": System.out.print(Files.readString(Path.of("in.txt"))); break;
        case "net":
            try { new Socket().connect(new InetSocketAddress("1.1.1.1", 80), 2000); System.out.println("connected"); }
            catch (java.io.IOException e) { System.out.println("none"); }
            break;
        }
    }
}
