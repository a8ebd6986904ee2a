// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <functional>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <vector>

static void inner() { throw std::runtime_error("told to"); }

int main(int argc, char **argv)
{
    std::vector<std::string> args(argv + 2, argv + argc);
    std::map<std::string, std::function<int()>> modes{
        {"hello", [] { std::cout << "Hello, World!\n"; return 0; }},
        {"stdin", [] { std::cout << std::cin.rdbuf(); return 0; }},
        {"args", [&] { for (auto &a : args) std::cout << '[' << a << ']'; std::cout << '\n'; return 0; }},
        {"env", [] { std::cout << std::getenv("GREETING") << '\n'; return 0; }},
        {"exit", [] { return 3; }},
        {"throw", [] { inner(); return 0; }},
        {"loop", [] { for (volatile int i = 0;; i = i + 1); return 0; }},
        {"alloc", [] { std::string s(1 << 30, 'x'); std::cout << s.size() << '\n'; return 0; }},
        {"flood", [] { std::cout << std::string(10485760, 'x'); return 0; }},
        {"threads", [] {
            std::vector<int> n{1, 2, 3, 4}, done(4);
            std::vector<std::thread> t;
            for (int i = 0; i < 4; i++) t.emplace_back([&, i] { done[i] = n[i]; });
            for (auto &x : t) x.join();
            std::cout << done[0] + done[1] + done[2] + done[3] << '\n';
            return 0;
        }},
        {"write", [] { std::ofstream("/work/outputs/made.txt") << "made here\n"; return 0; }},
        {"read", [] { std::cout << std::ifstream("in.txt").rdbuf(); return 0; }},
        {"net", [] {
            sockaddr_in to{};
            to.sin_family = AF_INET;
            to.sin_port = htons(80);
            inet_pton(AF_INET, "1.1.1.1", &to.sin_addr);
            std::cout << (connect(socket(AF_INET, SOCK_STREAM, 0), (sockaddr *)&to, sizeof to) == 0 ? "connected\n" : "none\n");
            return 0;
        }},
    };
    return modes.at(argv[1])();
}
