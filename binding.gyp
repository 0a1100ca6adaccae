# The native addon: build/Release/vmsnap.node. The xxHash sources come with the npm package xxhash-addon, wherever npm
# put it (its own folder here, or hoisted beside us).
{
  'variables': {
    'xxhash_dir': '<!(node -p "const p = require(\'path\'); p.relative(\'.\', p.join(p.dirname(require.resolve(\'xxhash-addon/package.json\')), \'xxHash\'))")',
    'napi_dir': '<!(node -p "require(\'path\').dirname(require.resolve(\'node-addon-api/package.json\'))")',
    'xxhash_include': '<!(node -p "const p = require(\'path\'); p.join(p.dirname(require.resolve(\'xxhash-addon/package.json\')), \'xxHash\')")',
  },
  'target_defaults': {
    'cflags': ['-O3', '-fvisibility=hidden', '-fstack-protector-strong'],
  },
  'targets': [
    {
      'target_name': 'vmsnap',
      'sources': [
        'native/addon/arguments.cc',
        'native/addon/digests.cc',
        'native/addon/files.cc',
        'native/addon/module.cc',
        'native/addon/scanner.cc',
        'native/addon/segments.cc',
        'native/addon/streams.cc',
        'native/crc32c/crc32c.cc',
        'native/crc32c/crc32c_armv8.cc',
        'native/crc32c/crc32c_sse42.cc',
        'native/crc32c/crc32c_table.cc',
        'native/digest/leaf_digester.cc',
        'native/digest/memory_digest.cc',
        'native/digest/xxh3.cc',
        'native/file/extent_cursor.cc',
        'native/file/file_system.cc',
        'native/file/gather_writer.cc',
        'native/file/holes.cc',
        'native/file/hugetlb_write.cc',
        'native/file/lease.cc',
        'native/file/page_cache.cc',
        'native/file/stream.cc',
        'native/file/zero_range.cc',
        'native/scan/kernel_avx2.cc',
        'native/scan/kernel_neon.cc',
        'native/scan/kernel_scalar.cc',
        'native/scan/segment_scanner.cc',
        'native/scan/select.cc',
        'native/segment/segment_view.cc',
        'native/segment/segment_writer.cc',
      ],
      'defines': ['NAPI_VERSION=9', 'NAPI_DISABLE_CPP_EXCEPTIONS'],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
      # Headers of others are system headers, so that our warnings are about our own code.
      'cflags_cc': [
        '-std=c++20',
        '-fvisibility-inlines-hidden',
        '-Wall', '-Wextra', '-Wconversion', '-Wshadow', '-Wpedantic', '-Werror',
        '-isystem <(napi_dir)',
        '-isystem <(xxhash_include)',
      ],
      'ldflags': ['-Wl,-z,relro', '-Wl,-z,now', '-Wl,-z,noexecstack'],
      'conditions': [
        ['target_arch=="x64"', {'dependencies': ['xxhash']}],
      ],
    },
  ],
  'conditions': [
    ['target_arch=="x64"', {
      'targets': [
        {
          # A C library of its own: its code is not under our warnings.
          'target_name': 'xxhash',
          'type': 'static_library',
          'sources': ['<(xxhash_dir)/xxh_x86dispatch.c'],
          'cflags': ['-fPIC', '-w'],
        },
      ],
    }],
  ],
}
