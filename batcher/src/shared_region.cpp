#include "shared_region.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace penstock::batcher {
namespace {

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

std::byte* map(int fd, std::uint64_t bytes) {
  // Not MAP_POPULATE: a page costs memory when a row first touches it, not when the ring is made.
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) fail("cannot map a batch ring");
  return static_cast<std::byte*>(data);
}

}  // namespace

SharedRegion::~SharedRegion() {
  if (data_ != nullptr) munmap(data_, bytes_);
  if (fd_ >= 0) close(fd_);
}

SharedRegion SharedRegion::create(std::uint64_t bytes) {
  SharedRegion region;
  region.fd_ = memfd_create("penstock-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (region.fd_ < 0) fail("cannot make a memfd for a batch ring");
  if (ftruncate(region.fd_, static_cast<off_t>(bytes)) != 0) fail("cannot size a batch ring");
  // A worker that shrank the file would kill the main process by SIGBUS.
  if (fcntl(region.fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) fail("cannot seal a batch ring");
  region.data_ = map(region.fd_, bytes);
  region.bytes_ = bytes;
  return region;
}

SharedRegion SharedRegion::attach(int fd) {
  struct stat status{};
  if (fstat(fd, &status) != 0) fail("cannot look at the descriptor of a batch ring");
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) throw std::runtime_error("not a batch ring: the memory is not sealed");
  if (status.st_size <= 0) throw std::runtime_error("not a batch ring: the memory is empty");
  SharedRegion region;
  region.data_ = map(fd, static_cast<std::uint64_t>(status.st_size));
  region.bytes_ = static_cast<std::uint64_t>(status.st_size);
  return region;
}

}  // namespace penstock::batcher
