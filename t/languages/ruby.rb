# SPDX-License-Identifier: Apache-2.0
require "socket"
def inner = raise("told to")
case ARGV[0]
when "hello" then puts "Hello, World!"
when "stdin" then print $stdin.read
when "args" then puts ARGV[1..].map { |a| "[#{a}]" }.join
when "env" then puts ENV["GREETING"]
when "exit" then exit 3
when "throw" then inner
when "loop" then loop {}
when "alloc" then puts(("x" * (1 << 30)).length)
when "flood" then print "x" * 10485760
when "threads" then puts([1, 2, 3, 4].map { |i| Thread.new { i } }.sum(&:value))
when "write" then File.write("/work/outputs/made.txt", "made here\n")
when "read" then print File.read("in.txt")
when "net"
  begin
    TCPSocket.new("1.1.1.1", 80)
    puts "connected"
  rescue SystemCallError
    puts "none"
  end
end
