// SPDX-License-Identifier: Apache-2.0
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

func inner() { panic("told to") }

func main() {
	switch os.Args[1] {
	case "hello":
		fmt.Println("Hello, World!")
	case "stdin":
		io.Copy(os.Stdout, os.Stdin)
	case "args":
		for _, a := range os.Args[2:] {
			fmt.Printf("[%s]", a)
		}
		fmt.Println()
	case "env":
		fmt.Println(os.Getenv("GREETING"))
	case "exit":
		os.Exit(3)
	case "throw":
		inner()
	case "loop":
		for {
		}
	case "alloc":
		b := make([]byte, 1<<30)
		for i := range b {
			b[i] = 'x'
		}
		fmt.Println(len(b))
	case "flood":
		fmt.Print(strings.Repeat("x", 10485760))
	case "threads":
		var wait sync.WaitGroup
		results := make(chan int, 4)
		for i := 1; i <= 4; i++ {
			wait.Add(1)
			go func(n int) { results <- n; wait.Done() }(i)
		}
		wait.Wait()
		fmt.Println(<-results + <-results + <-results + <-results)
	case "write":
		os.WriteFile("/work/outputs/made.txt", []byte("made here\n"), 0644)
	case "read":
		b, _ := os.ReadFile("in.txt")
		os.Stdout.Write(b)
	case "net":
		if _, err := net.DialTimeout("tcp", "1.1.1.1:80", 2*time.Second); err == nil {
			fmt.Println("connected")
		} else {
			fmt.Println("none")
		}
	}
}
