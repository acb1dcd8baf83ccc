// The bodies of the CUDA lane, compiled for the host: block after block.
#include <atomic>
#include <cstdint>
#include <vector>

#include "gather_body.hpp"
#include "images_body.hpp"
#include "penstock/kernels/device_work.hpp"
#include "steps_body.hpp"

namespace penstock::device {

void run_on_host(const GatherWork& work, const Grid& grid) noexcept {
  for (std::uint32_t block = 0; block < grid.blocks; ++block) {
    for (std::uint32_t thread = 0; thread < grid.threads; ++thread) {
      gather_body(work, block, grid.blocks, thread, grid.threads);
    }
  }
}

void run_on_host(const StepsWork& work, const Grid& grid) {
  std::vector<double> registers(grid.shared_bytes / sizeof(double));
  for (std::uint32_t tile = 0; tile < grid.blocks; ++tile) steps_body(work, tile, registers.data(), HostTeam{});
}

void run_on_host(const ImageWork& work, const Grid& grid) {
  // Of blocks of 16 bytes, which is how a tile of images is staged.
  std::vector<Bytes16> shared(grid.shared_bytes / sizeof(Bytes16));
  auto* const bytes = reinterpret_cast<std::uint8_t*>(shared.data());
  for (std::uint32_t block = 0; block < grid.blocks; ++block) {
    images_body(work, block, grid.blocks, grid.threads, bytes, HostTeam{});
  }
}

void run_on_host(const SignalWork& work) noexcept {
  // Release: what the stream did before; pairs with the load of whoever polls the flag.
  std::atomic_ref(*work.flag).store(work.head->sequence, std::memory_order_release);
}

}  // namespace penstock::device
