// A network disk to test with: it shows a folder through FUSE, read-only. Each read takes a set time, however many are
// under way, and those that touch a byte that is said to be bad fail. Attributes are not kept, and what the kernel has
// read of a file is dropped where the file changes, so that a file cut short is seen at once.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// As many reads as the kernel may have under way behind a process that did not wait for them; go-fuse's default is 12.
const mostInBackground = 1024

type counts struct {
	Reads  int   `json:"reads"`
	Failed int   `json:"failed"`
	Bytes  int64 `json:"bytes"`
	AtOnce int   `json:"atOnce"`
}

type disk struct {
	folder  string
	latency time.Duration
	badFile string
	badByte int64
	direct  bool

	mutex    sync.Mutex
	counts   counts
	underWay int
}

func (d *disk) begin() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.underWay++
	d.counts.AtOnce = max(d.counts.AtOnce, d.underWay)
}

func (d *disk) end(bytes int, failed bool) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.underWay--
	d.counts.Reads++
	d.counts.Bytes += int64(bytes)
	if failed {
		d.counts.Failed++
	}
}

// write puts the counts in place whole: who sees the file sees all of it.
func (d *disk) write(path string) error {
	if path == "" {
		return nil
	}
	d.mutex.Lock()
	content, err := json.Marshal(d.counts)
	d.mutex.Unlock()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// A node is a file or folder below the one that is shown; only how a file is opened is not go-fuse's own.
type node struct {
	*fs.LoopbackNode
	disk *disk
}

func (n *node) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{child.(*fs.LoopbackNode), n.disk}
}

func (n *node) Open(_ context.Context, _ uint32) (fs.FileHandle, uint32, syscall.Errno) {
	path := n.Path(n.Root())
	source, err := os.Open(filepath.Join(n.disk.folder, path))
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	badByte := int64(-1)
	if n.disk.badFile == path {
		badByte = n.disk.badByte
	}
	var flags uint32
	if n.disk.direct {
		flags |= fuse.FOPEN_DIRECT_IO
	}
	return &file{n.disk, source, badByte}, flags, 0
}

// A file is not go-fuse's LoopbackFile, which the kernel would read past this program (FUSE_PASSTHROUGH).
type file struct {
	disk    *disk
	source  *os.File
	badByte int64
}

func (f *file) Read(_ context.Context, target []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.begin()
	time.Sleep(f.disk.latency)
	count, err := 0, error(syscall.EIO)
	if f.badByte < offset || f.badByte >= offset+int64(len(target)) {
		count, err = syscall.Pread(int(f.source.Fd()), target, offset)
	}
	f.disk.end(max(0, count), err != nil)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(target[:count]), 0
}

func (f *file) Release(context.Context) syscall.Errno {
	return fs.ToErrno(f.source.Close())
}

func main() {
	latency := flag.Duration("latency", 0, "what a read takes")
	badFile := flag.String("bad-file", "", "a file, as the folder names it, of which a byte cannot be read")
	badByte := flag.Int64("bad-byte", 0, "that byte")
	direct := flag.Bool("direct", false, "keep the kernel from keeping what it has read")
	path := flag.String("counts", "", "a file for what was asked for, written on SIGUSR1 and at the end")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "slowfs [flags] FOLDER MOUNTPOINT: say `mounted`, and go on until SIGTERM")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(64)
	}
	folder, mountPoint := flag.Arg(0), flag.Arg(1)
	shown := &disk{folder: folder, latency: *latency, badFile: *badFile, badByte: *badByte, direct: *direct}
	if err := serve(shown, mountPoint, *path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(shown *disk, mountPoint, path string) error {
	loopback, err := fs.NewLoopbackRoot(shown.folder)
	if err != nil {
		return err
	}
	never := time.Duration(0)
	server, err := fs.Mount(mountPoint, &node{loopback.(*fs.LoopbackNode), shown}, &fs.Options{
		AttrTimeout:  &never,
		EntryTimeout: &never,
		MountOptions: fuse.MountOptions{
			DirectMountStrict: true, // no fusermount
			DirectMountFlags:  syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV,
			FsName:            shown.folder,
			Name:              "slowfs",
			MaxBackground:     mostInBackground,
		},
	})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for each := range signals {
			if each != syscall.SIGUSR1 {
				break
			}
			if err := shown.write(path); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		// Files may be open still: the mount goes now, and what it shows with the last of them, or with this process.
		if err := shown.write(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		if err := syscall.Unmount(mountPoint, syscall.MNT_DETACH); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	}()
	server.Wait()
	return shown.write(path)
}
