// Streams: whole transfers through pipes, FIFOs and sockets, their ends, and stopping them while they wait.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include <sys/socket.h>
#include <sys/stat.h>

#include "../file/stream.h"
#include "support/check.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kGoOn = 0;
constexpr PipeWay kPipeWays[] = {PipeWay::kNoWait, PipeWay::kReopened, PipeWay::kSmall};

struct Ends {
  UniqueFd read;
  UniqueFd write;
};

Ends make_pipe(size_t capacity_bytes) {
  PipeEnds ends;
  if (open_pipe(capacity_bytes, ends) != 0) std::abort();
  return {UniqueFd(ends.read_fd), UniqueFd(ends.write_fd)};
}

void check_transfer(Ends ends, PipeWay way = PipeWay::kNoWait) {
  const std::vector<uint8_t> sent = Random(18).bytes(3'000'001);
  std::vector<uint8_t> got(sent.size() + 100);
  std::thread writer([&] {
    CHECK_EQ(write_stream(ends.write.get(), sent.data(), 1'000'000, &kGoOn, way), 0);
    CHECK_EQ(write_stream(ends.write.get(), sent.data() + 1'000'000, sent.size() - 1'000'000, &kGoOn, way), 0);
    ends.write = UniqueFd();
  });
  CHECK_EQ(read_stream(ends.read.get(), got.data(), 10, &kGoOn), 10);
  const int64_t rest = read_stream(ends.read.get(), got.data() + 10, got.size() - 10, &kGoOn);
  writer.join();
  CHECK_EQ(rest, static_cast<int64_t>(sent.size() - 10));
  got.resize(sent.size());
  CHECK_EQ(got, sent);
}

/// Runs `wait` while another thread raises the abort word after a moment; it must end soon after.
template <class Wait>
void check_stops(Wait&& wait) {
  int32_t abort = 0;
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    __atomic_store_n(&abort, 1, __ATOMIC_RELEASE);
  });
  const Clock::time_point start = Clock::now();
  CHECK_EQ(wait(&abort), -ECANCELED);
  stopper.join();
  CHECK(Clock::now() - start < std::chrono::seconds(3));
}

}  // namespace

TEST(stream_through_pipes) {
  for (const PipeWay way : kPipeWays) {
    check_transfer(make_pipe(0), way);
    check_transfer(make_pipe(4096), way);
    check_transfer(make_pipe(1 << 20), way);
  }
}

TEST(stream_through_a_named_fifo) {
  const TempFolder folder;
  const std::string path = folder.path("fifo");
  CHECK_EQ(mkfifo(path.c_str(), 0600), 0);
  UniqueFd read_end = open_or_abort(path, O_RDONLY | O_NONBLOCK);
  UniqueFd write_end = open_or_abort(path, O_WRONLY);
  fcntl(read_end.get(), F_SETFL, 0);
  check_transfer({std::move(read_end), std::move(write_end)});
}

TEST(stream_through_non_blocking_pipes) {
  Ends ends = make_pipe(65536);
  fcntl(ends.read.get(), F_SETFL, O_NONBLOCK);
  fcntl(ends.write.get(), F_SETFL, O_NONBLOCK);
  check_transfer(std::move(ends));
}

TEST(stream_through_sockets) {
  int fds[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  check_transfer({UniqueFd(fds[0]), UniqueFd(fds[1])});
}

TEST(stream_to_and_from_files) {
  const UniqueFd file = temp_file();
  const std::vector<uint8_t> sent = Random(19).bytes(3'000'000);
  CHECK_EQ(write_stream(file.get(), sent.data(), sent.size(), &kGoOn), 0);
  CHECK_EQ(lseek(file.get(), 0, SEEK_SET), 0);
  std::vector<uint8_t> got(sent.size() + 1);
  CHECK_EQ(read_stream(file.get(), got.data(), got.size(), &kGoOn), static_cast<int64_t>(sent.size()));
  got.pop_back();
  CHECK_EQ(got, sent);
  const UniqueFd null = open_or_abort("/dev/null", O_WRONLY);
  CHECK_EQ(write_stream(null.get(), sent.data(), sent.size(), &kGoOn), 0);
  const UniqueFd full = open_or_abort("/dev/full", O_WRONLY);
  CHECK_EQ(write_stream(full.get(), sent.data(), sent.size(), &kGoOn), -ENOSPC);
}

TEST(stream_writer_leaves_the_blocking_flag_alone) {
  Ends ends = make_pipe(65536);
  const uint8_t byte = 1;
  CHECK_EQ(write_stream(ends.write.get(), &byte, 1, &kGoOn), 0);
  CHECK_EQ(fcntl(ends.write.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(stream_writer_can_be_stopped_while_the_reader_sleeps) {
  const std::vector<uint8_t> much(4 << 20);
  const auto write_much = [&](int fd, PipeWay way = PipeWay::kNoWait) {
    return [&, fd, way](const int32_t* abort) { return write_stream(fd, much.data(), much.size(), abort, way); };
  };
  for (const PipeWay way : kPipeWays) {
    const Ends ends = make_pipe(65536);
    check_stops(write_much(ends.write.get(), way));
  }
  int fds[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  const Ends sockets = {UniqueFd(fds[0]), UniqueFd(fds[1])};
  check_stops(write_much(sockets.write.get()));
  const TempFolder folder;
  CHECK_EQ(mkfifo(folder.path("fifo").c_str(), 0600), 0);
  const UniqueFd read_end = open_or_abort(folder.path("fifo"), O_RDONLY | O_NONBLOCK);
  const UniqueFd write_end = open_or_abort(folder.path("fifo"), O_WRONLY);
  check_stops(write_much(write_end.get()));
}

TEST(stream_reader_can_be_stopped_while_it_waits) {
  const Ends ends = make_pipe(65536);
  std::vector<uint8_t> got(100);
  const uint8_t some[3] = {1, 2, 3};
  CHECK_EQ(write(ends.write.get(), some, sizeof some), ssize_t{3});
  check_stops([&](const int32_t* abort) {
    return static_cast<int>(read_stream(ends.read.get(), got.data(), got.size(), abort));
  });
}

TEST(stream_tells_a_reader_that_has_gone) {
  const std::vector<uint8_t> much(1 << 20);
  for (const PipeWay way : kPipeWays) {
    Ends ends = make_pipe(65536);
    ends.read = UniqueFd();
    CHECK_EQ(write_stream(ends.write.get(), much.data(), much.size(), &kGoOn, way), -EPIPE);
  }
  Ends later = make_pipe(65536);
  std::thread closer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    later.read = UniqueFd();
  });
  CHECK_EQ(write_stream(later.write.get(), much.data(), much.size(), &kGoOn), -EPIPE);
  closer.join();
  int fds[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  close(fds[0]);
  CHECK_EQ(write_stream(fds[1], much.data(), much.size(), &kGoOn), -EPIPE);
  close(fds[1]);
  CHECK_EQ(write_stream(fds[1], much.data(), much.size(), &kGoOn), -EBADF);
  uint8_t byte;
  CHECK_EQ(read_stream(fds[1], &byte, 1, &kGoOn), int64_t{-EBADF});
}

TEST(pipe_has_the_capacity_asked_for_or_what_is_allowed) {
  CHECK_EQ(fcntl(make_pipe(1 << 18).write.get(), F_GETPIPE_SZ), 1 << 18);
  CHECK(fcntl(make_pipe(size_t{1} << 30).write.get(), F_GETPIPE_SZ) >= 65536);
}

TEST(a_pipe_is_made_wider_and_never_smaller) {
  const Ends ends = make_pipe(65536);
  const auto widened = [&](size_t capacity_bytes) {
    widen_pipe(ends.read.get(), capacity_bytes);
    return fcntl(ends.write.get(), F_GETPIPE_SZ);
  };
  CHECK_EQ(widened(4096), 65536);
  CHECK_EQ(widened(1 << 18), 1 << 18);
  CHECK_EQ(widened(65536), 1 << 18);
  CHECK(widened(size_t{1} << 40) >= 1 << 18);
  // No pipes: nothing happens.
  widen_pipe(-1, 1 << 18);
  const UniqueFd file(open("/dev/null", O_RDONLY));
  widen_pipe(file.get(), 1 << 18);
}

}  // namespace vmsnap::test
