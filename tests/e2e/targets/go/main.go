// SPDX-License-Identifier: BSD-2-Clause

// HTTPS in Go, as server and as client: the same source is built by every Go from 1.15 on.
//
//	main server CERTIFICATE KEY        net/http; prints "listening PORT", then what it served
//	main client PORT http1|http2      net/http; told by lines on its input, answers on its output
//	main raw-server CERTIFICATE KEY   crypto/tls alone, with buffers on stacks that grow
//	main raw-client PORT COUNT        the same; begins when a line comes in
//	main load PORT http1|http2 WORKERS
//	                                  requests as fast as they go, each response checked, until
//	                                  the end of its input
//
// An order to the client is a JSON object {"target", "method", "size"} or a list of such, which are
// sent at once; {"reconnect": true} closes idle connections. Answers and what servers print are the
// fields of lib.entries.Report. With QUIET in the environment the server prints no requests, with
// GROW its handlers use much stack; with RENEGOTIATE the client speaks TLS 1.2 and lets the server
// renegotiate; with PANIC=N the raw server's connections panic when they are read after N messages.
//
// Targets: /size/N is answered with N bytes, all else with as many as the request's body has; the
// answer to /meet/N waits until there are N of them. The response has the request's X-Number.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"io/ioutil"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

type address struct {
	host string
	port int
}

func (a address) MarshalJSON() ([]byte, error) {
	return json.Marshal([]interface{}{a.host, a.port})
}

type report struct {
	Method          string      `json:"method"`
	Target          string      `json:"target"`
	Status          int         `json:"status"`
	RequestSize     int64       `json:"request_size"`
	ResponseSize    int64       `json:"response_size"`
	RequestHeaders  [][2]string `json:"request_headers"`
	ResponseHeaders [][2]string `json:"response_headers"`
	Local           address     `json:"local"`
	Peer            address     `json:"peer"`
	Pid             int         `json:"pid"`
	Version         string      `json:"version"`
}

type order struct {
	Target    string `json:"target"`
	Method    string `json:"method"`
	Size      *int64 `json:"size"`
	Reconnect bool   `json:"reconnect"`
}

var printing sync.Mutex

func say(value interface{}) {
	line, err := json.Marshal(value)
	must(err)
	printing.Lock()
	fmt.Printf("%s\n", line)
	printing.Unlock()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func addressOf(a net.Addr) address {
	tcp := a.(*net.TCPAddr)
	return address{tcp.IP.String(), tcp.Port}
}

func addressOfText(text string) address {
	host, port, err := net.SplitHostPort(text)
	must(err)
	number, err := strconv.Atoi(port)
	must(err)
	return address{host, number}
}

func pairs(header http.Header, more ...[2]string) [][2]string {
	list := append([][2]string{}, more...)
	for name, values := range header {
		for _, value := range values {
			list = append(list, [2]string{name, value})
		}
	}
	return list
}

// Host is a header of HTTP/1 only.
func requestPairs(major int, host string, header http.Header) [][2]string {
	if major == 1 {
		return pairs(header, [2]string{"Host", host})
	}
	return pairs(header)
}

func versionOf(major, minor int) string {
	if major == 2 {
		return "2"
	}
	return fmt.Sprintf("%d.%d", major, minor)
}

// Uses that much more of the stack, so that it grows.
func descend(depth int, then func()) byte {
	var room [256]byte
	if depth == 0 {
		then()
		return room[0]
	}
	room[depth%len(room)] = byte(depth)
	return descend(depth-1, then) + room[(depth*7)%len(room)]
}

func listen() net.Listener {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err)
	return listener
}

func sayListening(listener net.Listener) {
	fmt.Printf("listening %d\n", listener.Addr().(*net.TCPAddr).Port)
}

// Lets its callers go on when there are as many as they say.
type meeting struct {
	sync.Mutex
	waiting []chan bool
}

func (m *meeting) wait(count int) {
	gone := make(chan bool)
	m.Lock()
	m.waiting = append(m.waiting, gone)
	if len(m.waiting) == count {
		for _, each := range m.waiting {
			close(each)
		}
		m.waiting = nil
	}
	m.Unlock()
	<-gone
}

func serve(certificate, key string) {
	var all meeting
	quiet, grow := os.Getenv("QUIET") != "", os.Getenv("GROW") != ""
	handler := func(w http.ResponseWriter, r *http.Request) {
		received, err := io.Copy(ioutil.Discard, r.Body)
		if err != nil {
			return
		}
		size := received
		if strings.HasPrefix(r.URL.Path, "/size/") {
			size, err = strconv.ParseInt(r.URL.Path[len("/size/"):], 10, 64)
			must(err)
		}
		if strings.HasPrefix(r.URL.Path, "/meet/") {
			count, err := strconv.Atoi(r.URL.Path[len("/meet/"):])
			must(err)
			all.wait(count)
		}
		header := w.Header()
		// All of them, so that net/http adds none that would not be in the report.
		header.Set("Content-Length", strconv.FormatInt(size, 10))
		header.Set("Content-Type", "text/plain")
		header.Set("Date", "Mon, 23 Nov 2026 04:05:06 GMT")
		header.Set("X-Answer", "to "+r.RequestURI)
		if number := r.Header.Get("X-Number"); number != "" {
			header.Set("X-Number", number)
		}
		depth := 0
		if grow {
			depth = int(size) % 300
		}
		descend(depth, func() { w.Write(bytes.Repeat([]byte("g"), int(size))) })
		if quiet {
			return
		}
		say(report{r.Method, r.RequestURI, 200, received, size,
			requestPairs(r.ProtoMajor, r.Host, r.Header), pairs(header),
			addressOf(r.Context().Value(http.LocalAddrContextKey).(net.Addr)),
			addressOfText(r.RemoteAddr), os.Getpid(), versionOf(r.ProtoMajor, r.ProtoMinor)})
	}
	listener := listen()
	sayListening(listener)
	must((&http.Server{Handler: http.HandlerFunc(handler)}).ServeTLS(listener, certificate, key))
}

func transport(protocol string) *http.Transport {
	config := &tls.Config{InsecureSkipVerify: true}
	if os.Getenv("RENEGOTIATE") != "" {
		config.MaxVersion = tls.VersionTLS12
		config.Renegotiation = tls.RenegotiateFreelyAsClient
	}
	t := &http.Transport{
		TLSClientConfig:     config,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 1000,
		ForceAttemptHTTP2:   protocol == "http2",
	}
	if protocol == "http1" {
		t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return t
}

// What the transport adds by itself is set here too, so that the report has it.
func request(t *http.Transport, port, protocol string, o order) report {
	var got httptrace.GotConnInfo
	var body io.Reader
	if o.Method == "" {
		o.Method = "GET"
	}
	if o.Size != nil {
		body = bytes.NewReader(make([]byte, *o.Size))
	}
	r, err := http.NewRequest(o.Method, "https://127.0.0.1:"+port+o.Target, body)
	must(err)
	r.Header.Set("User-Agent", "go-client")
	r.Header.Set("X-Target", o.Target)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { got = info }}))
	response, err := t.RoundTrip(r)
	must(err)
	received, err := io.Copy(ioutil.Discard, response.Body)
	must(err)
	must(response.Body.Close())
	sent := requestPairs(response.ProtoMajor, r.URL.Host, r.Header)
	if o.Size != nil {
		sent = append(sent, [2]string{"Content-Length", strconv.FormatInt(*o.Size, 10)})
	}
	return report{o.Method, o.Target, response.StatusCode, r.ContentLength, received, sent,
		pairs(response.Header), addressOf(got.Conn.LocalAddr()), addressOf(got.Conn.RemoteAddr()),
		os.Getpid(), versionOf(response.ProtoMajor, response.ProtoMinor)}
}

func client(port, protocol string) {
	t := transport(protocol)
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	fmt.Println("ready")
	for input.Scan() {
		var orders []order
		if input.Bytes()[0] != '[' {
			var single order
			must(json.Unmarshal(input.Bytes(), &single))
			if single.Reconnect {
				t.CloseIdleConnections()
				say(nil)
			} else {
				say(request(t, port, protocol, single))
			}
			continue
		}
		must(json.Unmarshal(input.Bytes(), &orders))
		reports := make([]report, len(orders))
		var all sync.WaitGroup
		for i := range orders {
			all.Add(1)
			go func(i int) {
				defer all.Done()
				reports[i] = request(t, port, protocol, orders[i])
			}(i)
		}
		all.Wait()
		say(reports)
	}
}

// Reads into a buffer on the stack; the text, and whether the buffer was moved meanwhile.
//
//go:noinline
func readOnStack(conn *tls.Conn) (string, bool, error) {
	var buffer [512]byte
	before := uintptr(unsafe.Pointer(&buffer[0]))
	n, err := conn.Read(buffer[:])
	return string(buffer[:n]), uintptr(unsafe.Pointer(&buffer[0])) != before, err
}

var moved int64

// Reads a message on a new goroutine, whose stack is small, at a depth that differs.
func readMessage(conn *tls.Conn, number int) (text string, err error) {
	done := make(chan bool)
	go func() {
		defer close(done)
		defer func() {
			if what := recover(); what != nil {
				err = fmt.Errorf("panic: %v", what)
			}
		}()
		descend(number%24, func() {
			for err == nil && !strings.Contains(text, "\n\n") {
				var part string
				var was bool
				part, was, err = readOnStack(conn)
				text += part
				if was {
					atomic.AddInt64(&moved, 1)
				}
			}
		})
	}()
	<-done
	return text, err
}

// The body of a raw message ends it.
func rawBody(number int) string {
	return strings.Repeat("r", number*13%300) + "\n\n"
}

func rawReport(number int, local, peer net.Addr, host string) report {
	size := int64(len(rawBody(number)))
	length := strconv.FormatInt(size, 10)
	return report{"POST", fmt.Sprintf("/raw/%d", number), 200, size, size,
		[][2]string{{"Host", host}, {"Content-Length", length}},
		[][2]string{{"Content-Length", length}, {"X-Number", strconv.Itoa(number)}},
		addressOf(local), addressOf(peer), os.Getpid(), "1.1"}
}

// A connection that panics when it is read once it is broken, within crypto/tls.
type fragile struct {
	net.Conn
	broken bool
}

func (f *fragile) Read(buffer []byte) (int, error) {
	if f.broken {
		panic("broken")
	}
	return f.Conn.Read(buffer)
}

func rawServer(certificate, key string) {
	last, _ := strconv.Atoi(os.Getenv("PANIC"))
	pair, err := tls.LoadX509KeyPair(certificate, key)
	must(err)
	listener := listen()
	sayListening(listener)
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	for {
		tcp, err := listener.Accept()
		must(err)
		go func() {
			under := &fragile{Conn: tcp}
			conn := tls.Server(under, config)
			for i := 0; ; i++ {
				under.broken = last > 0 && i == last
				// The first one does the handshake.
				text, err := readMessage(conn, i)
				if err != nil {
					say(map[string]string{"error": err.Error()})
					say(map[string]int64{"moved": atomic.LoadInt64(&moved)})
					conn.Close()
					return
				}
				words := strings.Fields(text)
				number, err := strconv.Atoi(strings.TrimPrefix(words[1], "/raw/"))
				must(err)
				say(rawReport(number, conn.LocalAddr(), conn.RemoteAddr(), words[4]))
				body := rawBody(number)
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Number: %d\r\n\r\n%s",
					len(body), number, body)
			}
		}()
	}
}

func rawClient(port, count string) {
	number, err := strconv.Atoi(count)
	must(err)
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	tcp, err := net.Dial("tcp4", "127.0.0.1:"+port)
	must(err)
	conn := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true})
	for i := 0; i < number; i++ {
		body := rawBody(i)
		_, err = fmt.Fprintf(conn, "POST /raw/%d HTTP/1.1\r\nHost: raw\r\nContent-Length: %d\r\n\r\n%s",
			i, len(body), body)
		must(err)
		text, err := readMessage(conn, i)
		must(err)
		if !strings.HasSuffix(text, "\r\n\r\n"+body) {
			log.Fatalf("%d: %q", i, text)
		}
		say(rawReport(i, conn.LocalAddr(), conn.RemoteAddr(), "raw"))
	}
	say(map[string]int64{"moved": atomic.LoadInt64(&moved)})
	must(conn.Close())
}

// One request of the load; what is wrong with its response.
func loadOne(t *http.Transport, port string, number int64) error {
	size := number % 5000
	r, err := http.NewRequest("POST", fmt.Sprintf("https://127.0.0.1:%s/n/%d", port, number),
		bytes.NewReader(make([]byte, size)))
	must(err)
	r.Header.Set("X-Number", strconv.FormatInt(number, 10))
	response, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := ioutil.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != 200 || response.Header.Get("X-Number") != r.Header.Get("X-Number") ||
		int64(len(body)) != size {
		return fmt.Errorf("status %d, number %s, %d bytes", response.StatusCode,
			response.Header.Get("X-Number"), len(body))
	}
	return nil
}

// Some workers' transport, which is replaced now and then, so that there are new connections.
type shared struct {
	sync.Mutex
	transport *http.Transport
	used      int
}

func (s *shared) get(protocol string) *http.Transport {
	const most = 500
	s.Lock()
	defer s.Unlock()
	if s.used%most == 0 {
		s.transport = transport(protocol)
		s.transport.IdleConnTimeout = time.Second
	}
	s.used++
	return s.transport
}

func load(port, protocol string, workers int) {
	const perTransport = 8
	var number, failed, ended int64
	var all sync.WaitGroup
	transports := make([]shared, workers/perTransport+1)
	for i := 0; i < workers; i++ {
		all.Add(1)
		go func(s *shared) {
			defer all.Done()
			for atomic.LoadInt64(&ended) == 0 {
				n := atomic.AddInt64(&number, 1)
				descend(int(n)%200, func() {
					if err := loadOne(s.get(protocol), port, n); err != nil {
						atomic.AddInt64(&failed, 1)
						log.Printf("%d: %v", n, err)
					}
				})
			}
		}(&transports[i/perTransport])
	}
	io.Copy(ioutil.Discard, os.Stdin)
	atomic.StoreInt64(&ended, 1)
	all.Wait()
	say(map[string]int64{"requests": number, "failed": failed})
}

func main() {
	log.SetFlags(0)
	switch words := os.Args[1:]; words[0] {
	case "server":
		serve(words[1], words[2])
	case "client":
		client(words[1], words[2])
	case "raw-server":
		rawServer(words[1], words[2])
	case "raw-client":
		rawClient(words[1], words[2])
	case "load":
		workers, err := strconv.Atoi(words[3])
		must(err)
		load(words[1], words[2], workers)
	}
}
